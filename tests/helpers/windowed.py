"""The least that decodes whole shots window by window, to check the stages below `commit`."""

from __future__ import annotations

import numpy as np

from qdec.bits import Bytes
from qdec.codes import Code
from qdec.match import CompiledWindow, Tier, compile_window
from qdec.windows import Geometry, window_at
from qdec.windows.cut import answer_bytes, seam_rounds


def decode_windowed(
    code: Code, records: Bytes, geometry: Geometry, tier: Tier = Tier.MATCHING
) -> tuple[Bytes, np.ndarray]:
    """Frames ``(B, frame_bytes)`` and feasibility ``(B,)`` of whole shots ``(B, rounds, bytes)``.

    A shot may be longer than the code's template.
    """
    shots, length, record_bytes = records.shape
    frame_bytes, _ = answer_bytes(code.spacetime)
    cache: dict[tuple[int, ...], CompiledWindow] = {}
    frames = np.zeros((shots, frame_bytes), dtype=np.uint8)
    feasible = np.ones(shots, dtype=np.bool_)
    records = records.copy()  # seams are XORed into the rounds they concern
    start = 0
    while True:
        window = window_at(geometry, start, length)
        key = (*code.spacetime.window_key(window.start, window.end, length), window.commit)
        if key not in cache:
            cache[key] = compile_window(code, tier, geometry, window)
        syndromes = records[:, window.start : window.end]
        width = (window.end - window.start) * record_bytes
        answers = cache[key].decode(syndromes.reshape(shots, width))
        frames ^= answers.bits[:, :frame_bytes]
        feasible &= answers.feasible
        if window.closes:
            assert not answers.bits[:, frame_bytes:].any()  # nothing comes after a shot's end
            return frames, feasible
        seam = answers.bits[:, frame_bytes:].reshape(
            shots, seam_rounds(code.spacetime), record_bytes
        )
        start += window.commit
        records[:, start : start + seam.shape[1]] ^= seam
