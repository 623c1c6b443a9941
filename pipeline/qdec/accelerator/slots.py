"""Whose turn it is with each slot: a pure state machine, kept by the lane.

A slot is *free*, *awaited* (handed over, its answer still wanted), or in *quarantine* (its window
was answered otherwise, and the accelerator may still be writing into it). It is free again as soon
as the accelerator acknowledges it, or is known to be gone for good. Tickets never repeat, so an
acknowledgement says which handing over it is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# The ticket of a free slot: no acknowledgement ever matches it.
NOBODY = (1 << 64) - 1


class Ticket(NamedTuple):
    """A slot handed over, and the number that says so."""

    slot: int
    number: int


class Slots:
    """The slots of one lane.

    Attributes:
        out: ``(count,)`` uint64: the ticket that each slot is out for; `NOBODY` for free ones.
    """

    def __init__(
        self,
        requested: NDArray[np.uint64],
        answered: NDArray[np.uint64],
        generations: Sequence[int],
    ) -> None:
        """Go on behind a lane that died: what it had handed over is in quarantine.

        Args:
            requested, answered: ``(count,)``, the boards as they were found (zeros if new).
            generations: of the accelerators to which the slots were handed.
        """
        pending = requested != answered
        self.out = np.where(pending, requested, np.uint64(NOBODY))
        self._generation = list(generations)
        self._awaited = [False] * len(pending)
        self._free = np.flatnonzero(~pending).tolist()
        self._next = int(max(requested.max(initial=0), answered.max(initial=0))) + 1

    @property
    def free(self) -> int:
        """Slots that can be taken."""
        return len(self._free)

    def take(self, generation: int) -> Ticket | None:
        """Hand a free slot to the accelerator of this generation; None if there is none."""
        if not self._free:
            return None
        slot = self._free.pop()
        ticket = Ticket(slot, self._next)
        self._next += 1
        self.out[slot] = ticket.number
        self._generation[slot] = generation
        self._awaited[slot] = True
        return ticket

    def give_up(self, slot: int) -> None:
        """An awaited slot's window is answered otherwise: nobody may use the slot meanwhile."""
        self._awaited[slot] = False

    def acknowledged(self, slot: int, number: int) -> bool | None:
        """The accelerator is done with a slot.

        Returns:
            Whether its answer is still wanted; None if this is not what the slot is out for.
        """
        if number == NOBODY or int(self.out[slot]) != number:
            return None
        wanted = self._awaited[slot]
        self._release(slot)
        return wanted

    def now_served_by(self, generation: int) -> list[int]:
        """Every accelerator but this one is gone for good (0: all are).

        Returns:
            Slots whose answers were wanted and will never come; they are free, as are those in
            quarantine for the ones that have gone.
        """
        lost = []
        for slot in np.flatnonzero(self.out != np.uint64(NOBODY)).tolist():
            if self._generation[slot] != generation:
                if self._awaited[slot]:
                    lost.append(slot)
                self._release(slot)
        return lost

    def _release(self, slot: int) -> None:
        self.out[slot] = NOBODY
        self._awaited[slot] = False
        self._free.append(slot)
