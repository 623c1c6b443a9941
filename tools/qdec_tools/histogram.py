"""Latencies by the thousand: the lane's histogram, filled from arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.lane.stats import Histogram


class Latencies(Histogram):
    """A `Histogram` that takes arrays and remembers the largest."""

    __slots__ = ("largest",)

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.largest = 0

    def add_many(self, ns: NDArray[np.integer]) -> None:
        """Count durations in ns."""
        values = np.maximum(ns.astype(np.int64), 16)
        self.largest = max(self.largest, int(values.max(initial=0)))
        unique, counts = np.unique(values, return_counts=True)
        for value, count in zip(unique.tolist(), counts.tolist(), strict=True):
            self.add(value, count)

    def summary_us(self) -> dict[str, float]:
        """p50, p99, p99.9 and the largest, in µs; empty if nothing was counted."""
        if not self.largest:
            return {}
        quantiles = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999, "max": 1.0}
        # A bucket's end may lie beyond anything that was counted.
        return {
            name: round(min(self.quantile(q), self.largest) / 1e3, 1)
            for name, q in quantiles.items()
        }
