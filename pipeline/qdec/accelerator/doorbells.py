"""eventfds that say "look": one for the accelerator, one for the lane of each slot of the arena.

Always rung, whether or not the other side sleeps: to know that it does, one would need a fence that
Python cannot issue. A bell that rings for nothing costs a look.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

_FLAGS = os.EFD_CLOEXEC | os.EFD_NONBLOCK


class Doorbells:
    """The bells that a process has, by descriptors that its parent made.

    Attributes:
        fds: the accelerator's, then one for each slot from 0 on.
    """

    def __init__(self, fds: Sequence[int]) -> None:
        """Take inherited descriptors over; none if the service has no bells."""
        self.fds = list(fds)

    @classmethod
    def create(cls, slots: int) -> Doorbells:
        """Bells for so many slots."""
        bells = cls(())
        bells.extend(slots)
        return bells

    def extend(self, slots: int) -> None:
        """Have bells for at least so many slots; processes that were started before lack them."""
        while len(self.fds) < 1 + slots:
            self.fds.append(os.eventfd(0, _FLAGS))

    @property
    def slots(self) -> int:
        """How many slots have one."""
        return max(0, len(self.fds) - 1)

    @property
    def accelerator(self) -> int:
        """The accelerator's descriptor."""
        return self.fds[0]

    def of(self, slot: int) -> int:
        """The descriptor of a slot's lane."""
        return self.fds[1 + slot]


def ring(fd: int) -> None:
    """Ring a bell. Its system call also publishes what was written before it."""
    with suppress(BlockingIOError):  # 2^64 times, and nobody came
        os.eventfd_write(fd, 1)


def silence(fd: int) -> None:
    """Note that a bell was heard; look only after that, or what came in between is missed."""
    with suppress(BlockingIOError):
        os.eventfd_read(fd)
