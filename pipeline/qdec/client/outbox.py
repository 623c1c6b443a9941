"""Rounds a client holds: from the earliest that a resume could need up to the newest. No I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from qdec.bits import Bytes
from qdec.errors import DataError


@dataclass(slots=True)
class _Chunk:
    first: int
    records: Bytes
    lost: Bytes | None
    last: bool
    t_send: int

    @property
    def end(self) -> int:
        return self.first + len(self.records)


@dataclass(frozen=True, slots=True)
class Frame:
    """Rounds for one ROUNDS message."""

    first: int
    records: Bytes
    lost: Bytes | None
    last: bool
    t_send: int


class Outbox:
    """Rounds held and the place from which to send on; every operation is O(1) amortised.

    Attributes:
        end: one past the newest round.
        next: the round to send next.
    """

    def __init__(self, first_round: int, tail: int = 1) -> None:
        """Start empty at a round; a shot's last `tail` rounds are never split."""
        self._tail = max(1, tail)
        self._sent: deque[_Chunk] = deque()
        self._unsent: deque[_Chunk] = deque()  # the first one may be sent in part
        self.end = first_round
        self.next = first_round

    @property
    def first(self) -> int:
        """The earliest round held; `end` if there is none."""
        for chunks in (self._sent, self._unsent):
            if chunks:
                return chunks[0].first
        return self.end

    @property
    def held(self) -> int:
        """Rounds held."""
        return self.end - self.first

    def append(self, records: Bytes, lost: Bytes | None, last: bool, t_send: int) -> None:
        """Add the newest rounds, ``(n, record_bytes)`` uint8, not copied."""
        self._unsent.append(_Chunk(self.end, records, lost, last, t_send))
        self.end += len(records)

    def take(self, credit_until: int, max_rounds: int) -> Frame | None:
        """The next rounds that credit allows, or None. A chunk is sent in one piece if it fits."""
        if not self._unsent or self.next >= credit_until:
            return None
        chunk = self._unsent[0]
        start = self.next - chunk.first
        stop = min(chunk.end, credit_until, self.next + max_rounds) - chunk.first
        whole = stop == len(chunk.records)
        if chunk.last and not whole:
            stop = min(stop, len(chunk.records) - self._tail)
            if stop <= start:
                return None  # wait for the credit for all of the tail
        lost = None if chunk.lost is None else chunk.lost[start:stop]
        frame = Frame(
            self.next, chunk.records[start:stop], lost, chunk.last and whole, chunk.t_send
        )
        self.next = chunk.first + stop
        if whole:
            self._sent.append(self._unsent.popleft())
        return frame

    def rewind(self, round_: int) -> None:
        """Go on sending from a round that is still held.

        Raises:
            DataError: it is not.
        """
        if not self.first <= round_ <= self.end:
            raise DataError(f"round {round_} is asked for again, but only {self.first}... are held")
        while self._sent and self._sent[-1].end > round_:
            self._unsent.appendleft(self._sent.pop())
        while self._unsent and self._unsent[0].end <= round_:
            self._sent.append(self._unsent.popleft())
        self.next = round_

    def release(self, retain_from: int) -> None:
        """Forget rounds before `retain_from`, as far as they have been sent."""
        while self._sent and self._sent[0].end <= retain_from:
            self._sent.popleft()
