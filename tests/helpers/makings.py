"""Answers given by different makings of one stream, asked for again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qdec.config import StreamConfig
from qdec.lane.library import Library
from qdec.match import compile_window
from qdec.windows.cut import carry_seam
from qdec.windows.geometry import window_at


class Making:
    """A configured stream, as its files are now."""

    def __init__(self, stream: StreamConfig) -> None:
        library = Library()
        self.plan = library.plan(stream)
        self.identity = library.making(stream).identity


def check(rows: np.ndarray, records: np.ndarray, makings: Mapping[int, Making]) -> None:
    """Assert that each window of an unfinished shot has the answer of what is said to have made it.

    Args:
        rows: ``(n,)`` commits from the stream's first window on.
        records: ``(rounds, record_bytes)`` detectors.
        makings: by identity.
    """
    frame, seam = np.zeros_like(rows["frame"][0]), np.zeros_like(rows["seam"][0])
    compiled = {}
    start = 0
    for number, row in enumerate(rows):
        plan = makings[int(row["made_by"])].plan
        window = window_at(plan.geometry, start, None)
        assert (row["window"], row["first_round"], row["count"]) == (number, start, window.commit)
        syndrome = records[start : window.end].reshape(-1).copy()
        syndrome[: len(seam)] ^= seam
        space = plan.code.spacetime
        key = int(row["made_by"]), space.window_key(window.start, window.end, None)
        if key not in compiled:
            compiled[key] = compile_window(plan.code, plan.tier, plan.geometry, window)
        answer = compiled[key].decode(syndrome[None]).bits[0]
        frame = frame ^ answer[: len(frame)]
        seam = carry_seam(space, window, seam, answer[len(frame) :])
        np.testing.assert_array_equal(row["frame"], frame, err_msg=f"window {number}")
        np.testing.assert_array_equal(row["seam"], seam, err_msg=f"window {number}")
        start += window.commit
