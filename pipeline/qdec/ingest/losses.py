"""Which bits of a stream's rounds were lost, for as long as a window may ask."""

from __future__ import annotations

from collections import deque

import numpy as np

from qdec.bits import Bytes
from qdec.windows.ring import RoundRing


class LossLog:
    """Planes of lost bits by stream round. Takes no memory before something is lost."""

    def __init__(self, capacity: int, record_bytes: int) -> None:
        """Remember at most `capacity` rounds at a time."""
        self._capacity = capacity
        self._record_bytes = record_bytes
        self._planes: RoundRing | None = None
        self._rounds: deque[int] = deque()

    def __bool__(self) -> bool:
        """Whether any lost bit is remembered."""
        return bool(self._rounds)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._planes.nbytes if self._planes else 0

    def note(self, first_round: int, lost: Bytes) -> None:
        """Remember ``(n, record_bytes)`` uint8 planes, rounds in ascending order."""
        if self._planes is None:
            self._planes = RoundRing(self._capacity, 1, self._record_bytes)
        self._planes.write(first_round, lost)
        self._rounds.extend((first_round + np.flatnonzero(lost.any(axis=1))).tolist())

    def between(self, start: int, end: int) -> list[tuple[int, Bytes]]:
        """(round, plane) of the rounds in ``[start, end)`` that lack bits, in order."""
        if self._planes is None:
            return []
        return [(r, self._planes.view(r, 1)[0]) for r in self._rounds if start <= r < end]

    def forget(self, before: int) -> None:
        """Nobody will ask for rounds before this one again."""
        while self._rounds and self._rounds[0] < before:
            self._rounds.popleft()
