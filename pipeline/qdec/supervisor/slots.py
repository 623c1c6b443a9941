"""Whose slot of the arena is whose, as written into its head."""

from __future__ import annotations

from qdec.arena import SLOTS, Head


class Slots:
    """Gives each lane process a slot that nobody else writes to."""

    def __init__(self, head: Head) -> None:
        """Keep the books in the arena's head, where readers find them."""
        self._lane = head.slot_lane
        self._live = head.slot_live
        self._writer: dict[int, int] = {}

    def take(self, lane: int, child: int) -> int | None:
        """A slot for a child that will serve a lane, the lane's last one if that is free.

        None if there is none left, which takes as many lanes draining as can be served.
        """
        owner = lane + 1
        fresh: int | None = None
        for slot in range(SLOTS):
            if self._lane[slot] == owner and not self._live[slot]:
                break
            if fresh is None and not self._lane[slot]:
                fresh = slot
        else:
            if fresh is None:
                return None
            slot = fresh
        self._lane[slot] = owner
        self._live[slot] = 1
        self._writer[child] = slot
        return slot

    def of(self, child: int) -> int | None:
        """The slot that a child writes to, if it has one."""
        return self._writer.get(child)

    def release(self, child: int) -> None:
        """A child is gone for good."""
        slot = self._writer.pop(child, None)
        if slot is not None:
            self._live[slot] = 0
