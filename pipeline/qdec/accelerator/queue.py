"""Work that waits, of one kind and priority, the most urgent first."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import NamedTuple

from qdec.accelerator.work import Work


class Waiting(NamedTuple):
    """Work that waits; sorts by its deadline, then by its lane's turn, then as it came."""

    give_up: int
    turn: int
    number: int
    windows: int
    came: int
    work: Work


class Queue:
    """See the module.

    Attributes:
        waiting: what waits, in order.
        windows: how many that are.
    """

    __slots__ = ("waiting", "windows")

    def __init__(self) -> None:
        """Nothing waits."""
        self.waiting: list[Waiting] = []
        self.windows = 0

    def add(self, one: Waiting) -> None:
        """Have something wait."""
        insort(self.waiting, one)
        self.windows += one.windows

    def pop(self) -> Waiting:
        """Take the most urgent."""
        one = self.waiting.pop(0)
        self.windows -= one.windows
        return one

    def ahead_of(self, give_up: int) -> int:
        """Windows whose deadline is no later than this."""
        waiting = self.waiting
        if not waiting or waiting[-1].give_up <= give_up:
            return self.windows
        place = bisect_right(waiting, give_up, key=_give_up)
        if self.windows == len(waiting):
            return place
        return sum(one.windows for one in waiting[:place])

    def take(self, room: int) -> list[Waiting]:
        """Take the most urgent, whatever its size, and behind it what there is room for, in order.

        What does not fit is passed over, and is ahead of the rest the next time.
        """
        waiting = self.waiting
        if self.windows == len(waiting):
            taken = waiting[:room]
            del waiting[:room]
            self.windows -= len(taken)
            return taken
        taken = [waiting[0]]
        room -= waiting[0].windows
        left: list[Waiting] = []
        at = 1
        while room > 0 and at < len(waiting):
            one = waiting[at]
            if one.windows <= room:
                taken.append(one)
                room -= one.windows
            else:
                left.append(one)
            at += 1
        waiting[:at] = left
        self.windows -= sum(one.windows for one in taken)
        return taken


def _give_up(one: Waiting) -> int:
    return one.give_up
