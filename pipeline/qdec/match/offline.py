"""Whole recorded shots through the windows, many shots at a time.

What the service does to a stream, done to a batch: window by window, each one's seam XORed into
the next. It is the oracle that the live service is compared with, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.codes import Code, Part
from qdec.errors import DataError
from qdec.match.assess import Assessor
from qdec.match.compile import compile_window
from qdec.match.escalate import NO_SWITCHING, Switching
from qdec.match.models import Model
from qdec.match.tier import CompiledWindow, Tier
from qdec.windows.cut import answer_bytes, carry_seam
from qdec.windows.geometry import Geometry, Window, window_at


class WindowedDecoder:
    """Decodes batches of shots in windows that somebody else compiles."""

    def __init__(
        self, code: Code, geometry: Geometry, compiled: Callable[[Window], CompiledWindow]
    ) -> None:
        """Compile nothing yet.

        Args:
            code: the code.
            geometry: a geometry that fits it.
            compiled: the decoder of a window.
        """
        self._code = code
        self._geometry = geometry
        self._compiled = compiled

    def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
        """Decode shots of any one length that the code can be stretched to.

        Args:
            records: ``(B, rounds, record_bytes)`` uint8 detector records.

        Returns:
            ``(B, frame_bytes)`` uint8 frames, and ``(B,)`` bool: False where a window of the shot
            had no explanation (its frame then misses that window's part).

        Raises:
            DataError: the records do not have the code's shape.
            QdecError: a window cannot be compiled.
        """
        width = self._code.layout.record_bytes
        if records.ndim != 3 or records.shape[2] != width:
            raise DataError(
                f"records have shape (shots, rounds, {width}) for this code, not {records.shape}"
            )
        shots, length = records.shape[:2]
        if not self._code.spacetime.fits(length):
            raise DataError(f"no shot of this code has {length} rounds")
        frame_bytes, seam_bytes = answer_bytes(self._code.spacetime)
        frames = np.zeros((shots, frame_bytes), dtype=np.uint8)
        seam = np.zeros((shots, seam_bytes), dtype=np.uint8)
        feasible = np.ones(shots, dtype=np.bool_)
        at = 0
        while True:
            window = window_at(self._geometry, at, length)
            rounds = window.end - window.start
            syndromes = records[:, window.start : window.end].reshape(shots, rounds * width).copy()
            reach = min(seam_bytes, syndromes.shape[1])
            syndromes[:, :reach] ^= seam[:, :reach]
            answers = self._compiled(window).decode(syndromes)
            frames ^= answers.bits[:, :frame_bytes]
            feasible &= answers.feasible
            if window.closes:
                return frames, feasible
            seam = carry_seam(self._code.spacetime, window, seam, answers.bits[:, frame_bytes:])
            at += window.commit


class OfflineDecoder:
    """Decodes batches of shots; windows that are alike are compiled once."""

    def __init__(
        self,
        code: Code,
        tier: Tier,
        geometry: Geometry,
        part: Part | None = None,
        model: Model | None = None,
        switching: Switching = NO_SWITCHING,
    ) -> None:
        """Remember what to compile; nothing is compiled before it is needed.

        Args:
            code: the code.
            tier: what answers the windows.
            geometry: a geometry that fits the code (see `choose_geometry`).
            part: the part of the code to answer for; all of it if None.
            model: the network of a tier that needs one.
            switching: who is asked next about windows that the tier is not sure of.
        """
        self._code = code
        self._part = part
        self._model = model
        self.tier = tier
        self._geometry = geometry
        self._compiled: dict[tuple[int, ...], CompiledWindow] = {}
        self._assessor = None
        if switching:
            self._assessor = Assessor(code, tier, geometry, part, switching, model=model)

    def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
        """See `WindowedDecoder.decode`.

        Raises:
            GeometryError: the geometry does not suit the code or tier.
        """
        return WindowedDecoder(self._code, self._geometry, self._window).decode(records)

    def _window(self, window: Window) -> CompiledWindow:
        space = self._code.spacetime
        key = (*space.window_key(window.start, window.end, window.length), window.commit)
        if key not in self._compiled:
            if self._assessor is not None:
                compiled = self._assessor.compile(window)
            else:
                compiled = compile_window(
                    self._code,
                    self.tier,
                    self._geometry,
                    window,
                    part=self._part,
                    model=self._model,
                )
            self._compiled[key] = compiled
        return self._compiled[key]


def decode_shots(
    code: Code, tier: Tier, geometry: Geometry, records: Bytes
) -> tuple[Bytes, NDArray[np.bool_]]:
    """Decode one batch of shots; see `OfflineDecoder.decode`."""
    return OfflineDecoder(code, tier, geometry).decode(records)
