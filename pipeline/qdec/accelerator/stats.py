"""What the accelerator counts, and by what lanes know that it is there."""

from __future__ import annotations

import ctypes
from typing import Any

from qdec.lane.stats import Histogram, Words

_WORD = ctypes.c_uint64


class AcceleratorStats(Words):
    """One accelerator's words in the arena; each has one writer.

    Attributes:
        generation: of the accelerator that serves, never the same again; 0 where there is none. The
            supervisor writes it: another number than before means that the last one is gone for
            good. All else is the accelerator's.
        beat_ns: CLOCK_MONOTONIC at the last turn of its loop.
        batches, windows: decoded.
        skipped: windows not begun because they were too late.
        unknown: windows of a kind that was not compiled.
        failed: windows on which the decoder failed.
        batch: the decoder's calls.
    """

    COUNTERS = ("batches", "windows", "skipped", "unknown", "failed")

    generation: int
    beat_ns: int
    batches: int
    windows: int
    skipped: int
    unknown: int
    failed: int

    _fields_ = (
        *((name, _WORD) for name in ("generation", "beat_ns", *COUNTERS)),
        ("batch_words", _WORD * Histogram.WORDS),
    )

    def _attach(self) -> None:
        self.batch: Any = Histogram(self.batch_words)
