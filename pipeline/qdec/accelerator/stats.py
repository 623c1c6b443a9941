"""What the accelerator counts, and by what lanes know that it is there."""

from __future__ import annotations

import ctypes
from typing import Any

from qdec.accelerator.work import Reason
from qdec.lane.stats import Histogram, Words

_WORD = ctypes.c_uint64
SKIP_REASONS = tuple(reason.name.lower() for reason in Reason)
# Room for more than there are: the layout stays.
_MAX_REASON = 8


class AcceleratorStats(Words):
    """One accelerator's words in the arena; each has one writer.

    Attributes:
        generation: of the accelerator that serves, never the same again; 0 where there is none. The
            supervisor writes it: another number than before means that the last one is gone for
            good. All else is the accelerator's.
        beat_ns: CLOCK_MONOTONIC at the last turn of its loop.
        batches, windows: decoded.
        skipped: windows not begun, by `Reason`.
        unknown: windows of a kind that was not compiled.
        failed: windows on which the decoder failed.
        batch: what the engine worked at each batch.
        wait: of a window, from when it was seen to when its batch was begun.
    """

    COUNTERS = ("batches", "windows", "unknown", "failed")

    generation: int
    beat_ns: int
    batches: int
    windows: int
    skipped: ctypes.Array[ctypes.c_uint64]
    unknown: int
    failed: int

    _fields_ = (
        *((name, _WORD) for name in ("generation", "beat_ns", *COUNTERS)),
        ("skipped", _WORD * _MAX_REASON),
        ("batch_words", _WORD * Histogram.WORDS),
        ("wait_words", _WORD * Histogram.WORDS),
    )

    def _attach(self) -> None:
        self.batch: Any = Histogram(self.batch_words)
        self.wait: Any = Histogram(self.wait_words)
