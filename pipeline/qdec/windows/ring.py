"""A ring of round records in which any window is one contiguous view."""

from __future__ import annotations

import numpy as np

from qdec.bits import Bytes


class RoundRing:
    """Round records by round number, overwritten `capacity` rounds later.

    The first `window` rows are kept twice, at the front and behind the end, so that a window that
    wraps around is still contiguous: overlapping windows are views, never copies.
    """

    def __init__(self, capacity: int, window: int, record_bytes: int) -> None:
        """Allocate once; nothing grows.

        Args:
            capacity: rounds held.
            window: longest window that will be viewed, at most `capacity`.
            record_bytes: bytes of one round's record.
        """
        self.capacity = capacity
        self._mirror = min(window, capacity)
        self._rows = np.zeros((capacity + self._mirror, record_bytes), dtype=np.uint8)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._rows.nbytes

    def write(self, first_round: int, records: Bytes) -> None:
        """Store ``(n, record_bytes)`` uint8 for rounds `first_round` ..., n <= capacity."""
        n = len(records)
        at = first_round % self.capacity
        if self._mirror <= at and at + n <= self.capacity:  # nearly always
            self._rows[at : at + n] = records
            return
        done = 0
        while done < len(records):
            at = (first_round + done) % self.capacity
            n = min(len(records) - done, self.capacity - at)
            part = records[done : done + n]
            self._rows[at : at + n] = part
            mirrored = min(n, self._mirror - at)
            if mirrored > 0:
                start = self.capacity + at
                self._rows[start : start + mirrored] = part[:mirrored]
            done += n

    def contiguous(self, first_round: int) -> int:
        """How many rounds from one on `view` could show at once, beyond a window."""
        return self.capacity - first_round % self.capacity

    def view(self, first_round: int, count: int) -> Bytes:
        """``(count, record_bytes)`` view of rounds that have been written, count <= window."""
        at = first_round % self.capacity
        return self._rows[at : at + count]
