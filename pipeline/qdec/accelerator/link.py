"""The lane's end: windows handed over, answers taken back, nothing ever waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from qdec.accelerator.exchange import SLOTS, Exchange, Reply, Request
from qdec.accelerator.slots import Slots
from qdec.accelerator.stats import AcceleratorStats
from qdec.bits import Bytes

# An accelerator whose loop has not turned for so long is not asked. (A batch takes milliseconds.)
_SILENT_NS = 250_000_000


class Collected(NamedTuple):
    """What has become of slots since this was last asked.

    Attributes:
        replies: of awaited ones; None for a reply that is not sound.
        lost: awaited ones whose answer will never come.
        late: answers that nobody wants any more.
    """

    replies: list[tuple[int, Reply | None]]
    lost: list[int]
    late: int


class Link:
    """One lane's link to the accelerator, whichever process that is at the time."""

    def __init__(
        self, exchange: Exchange, words: AcceleratorStats, ring: Callable[[], None]
    ) -> None:
        """Go on behind whoever used these slots before.

        Args:
            exchange: the lane's slots.
            words: the accelerator's, to read.
            ring: rings its doorbell.
        """
        self._exchange = exchange
        self._words = words
        self._ring = ring
        boards = exchange.requested.tolist(), exchange.answered.tolist()
        self._slots = Slots(*boards, exchange.generations)
        self._slots.now_served_by(words.generation)
        self._asked: list[tuple[int, int]] = [(0, 0)] * SLOTS

    @property
    def generation(self) -> int:
        """Of the accelerator that serves; 0 if none does."""
        return self._words.generation

    @property
    def free(self) -> int:
        """Slots that can be taken."""
        return self._slots.free

    @property
    def out(self) -> int:
        """Slots handed over, awaited or in quarantine."""
        return SLOTS - self._slots.free

    def alive(self, now: int) -> bool:
        """Whether there is an accelerator whose loop turns; `now` is of CLOCK_MONOTONIC."""
        return self._words.generation != 0 and now - self._words.beat_ns < _SILENT_NS

    def hand_over(self, kind: int, give_up: int, syndromes: Bytes, answer_bytes: int) -> int | None:
        """Have windows decoded that fit a slot. Their slot, or None if none is free.

        Args:
            kind, give_up, syndromes, answer_bytes: see `Request`.
        """
        generation = self._words.generation
        ticket = self._slots.take(generation)
        if ticket is None:
            return None
        request = Request(generation, kind, give_up, syndromes, answer_bytes)
        self._exchange.hand_over(*ticket, request)
        self._asked[ticket.slot] = len(syndromes), answer_bytes
        self._ring()
        return ticket.slot

    def give_up(self, slot: int) -> None:
        """An awaited slot's windows are answered otherwise."""
        self._slots.give_up(slot)

    def collect(self) -> Collected:
        """Take back what has been acknowledged, or is lost."""
        wanted, late = self._slots.acknowledged(self._exchange.answered)
        # Nobody writes there before it is handed over again.
        replies = [(one.slot, self._exchange.reply(*one, *self._asked[one.slot])) for one in wanted]
        # What the last accelerator acknowledged before it went has been taken by now.
        return Collected(replies, self._slots.now_served_by(self._words.generation), late)
