"""Ragged rows in two arrays: row k is ``values[ptr[k]:ptr[k+1]]``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def gather_rows(ptr: Ints, values: Ints, which: Ints) -> tuple[Ints, Ints]:
    """The rows at indices `which`, in that order, as (ptr, values)."""
    counts = np.diff(ptr)[which]
    ends = np.cumsum(counts)
    at = np.arange(counts.sum()) + np.repeat(ptr[which] - (ends - counts), counts)
    return np.concatenate([[0], ends]).astype(np.int64), values[at]


def owners(ptr: Ints) -> Ints:
    """The row that each value belongs to."""
    return np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
