"""When a stream's rounds came, for as long as they wait to be committed."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Mark(NamedTuple):
    """When rounds came.

    Attributes:
        until: one past the last stream round of the frame.
        t_recv: ns of CLOCK_MONOTONIC, when the frame was received.
        t_send: ns, what the client stamped on it.
        cpu_recv: ns of CPU time that the receiving thread had used by then.
    """

    until: int
    t_recv: int
    t_send: int
    cpu_recv: int


class Marks:
    """The marks of the frames that are not wholly committed, oldest first."""

    def __init__(self) -> None:
        """Nothing has come."""
        self._marks: deque[Mark] = deque()

    def add(self, mark: Mark) -> None:
        """A frame came."""
        self._marks.append(mark)

    def of(self, end: int) -> Mark:
        """The mark of the frame that brought the round before stream round `end`."""
        for mark in self._marks:
            if mark.until >= end:
                return mark
        raise AssertionError("a window was asked for before its rounds came")

    def forget(self, before: int) -> None:
        """Nobody will ask for rounds up to this one again."""
        marks = self._marks
        while marks and marks[0].until <= before:
            marks.popleft()
