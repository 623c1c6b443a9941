"""Whose turn it is with each slot: a pure state machine, kept by the lane.

A slot is *free*, *awaited* (handed over, its answer still wanted), or in *quarantine* (its window
was answered otherwise, and the accelerator may still be writing into it). It is free again as soon
as the accelerator acknowledges it, or is known to be gone for good. Tickets never repeat, so an
acknowledgement says which handing over it is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Ticket(NamedTuple):
    """A slot handed over, and the number that says so."""

    slot: int
    number: int


@dataclass(slots=True)
class _Out:
    number: int
    generation: int
    wanted: bool


class Slots:
    """The slots of one lane."""

    def __init__(
        self, requested: Sequence[int], answered: Sequence[int], generations: Sequence[int]
    ) -> None:
        """Go on behind a lane that died: what it had handed over is in quarantine.

        Args:
            requested, answered: last ticket of each slot, as they were found (zeros if new).
            generations: of the accelerators to which the slots were handed.
        """
        self._out: dict[int, _Out] = {}
        self._free: list[int] = []
        for slot, (number, done) in enumerate(zip(requested, answered, strict=True)):
            if number == done:
                self._free.append(slot)
            else:
                self._out[slot] = _Out(number, generations[slot], wanted=False)
        self._next = max(*requested, *answered) + 1

    @property
    def free(self) -> int:
        """Slots that can be taken."""
        return len(self._free)

    def take(self, generation: int) -> Ticket | None:
        """Hand a free slot to the accelerator of this generation; None if there is none."""
        if not self._free:
            return None
        ticket = Ticket(self._free.pop(), self._next)
        self._next += 1
        self._out[ticket.slot] = _Out(ticket.number, generation, wanted=True)
        return ticket

    def give_up(self, slot: int) -> None:
        """An awaited slot's window is answered otherwise: nobody may use the slot meanwhile."""
        self._out[slot].wanted = False

    def acknowledged(self, answered: Sequence[int]) -> tuple[list[Ticket], int]:
        """Take back what the accelerator is done with.

        Args:
            answered: the last ticket that it acknowledged of each slot.

        Returns:
            Slots whose answers are still wanted, and how many others there were.
        """
        wanted, late = [], 0
        for slot, one in list(self._out.items()):
            if answered[slot] == one.number:
                self._release(slot)
                if one.wanted:
                    wanted.append(Ticket(slot, one.number))
                else:
                    late += 1
        return wanted, late

    def now_served_by(self, generation: int) -> list[int]:
        """Every accelerator but this one is gone for good (0: all are).

        Returns:
            Slots whose answers were wanted and will never come; they are free, as are those in
            quarantine for the ones that have gone.
        """
        gone = [(slot, one) for slot, one in self._out.items() if one.generation != generation]
        for slot, _ in gone:
            self._release(slot)
        return [slot for slot, one in gone if one.wanted]

    def _release(self, slot: int) -> None:
        del self._out[slot]
        self._free.append(slot)
