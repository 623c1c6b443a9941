"""One interface for every way to answer a window: compile once, decode many."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.errors import GeometryError


class Tier(IntEnum):
    """Ways to answer a window. The numbers are on the wire (commit records) and never change."""

    MATCHING = 1
    CORRELATED = 2
    SPEED = 3
    ACCURACY = 4
    ISING = 5
    GUARDED = 6

    @property
    def needs_model(self) -> bool:
        """Whether it answers nothing without a network that somebody named."""
        return self is Tier.ISING

    @property
    def takes_model(self) -> bool:
        """Whether it can be told which network to answer with."""
        return self in (Tier.SPEED, Tier.ACCURACY, Tier.ISING)

    @property
    def label(self) -> str:
        """The name in configuration, metrics and tables."""
        return self.name.lower()

    @property
    def accelerated(self) -> bool:
        """Whether the accelerator answers its windows unless a stream's configuration says no.

        Lanes decode by themselves what is quick enough for their own thread.
        """
        return self not in CLASSICAL

    @classmethod
    def from_label(cls, label: str) -> Tier:
        """Inverse of `label`.

        Raises:
            GeometryError: there is no such tier.
        """
        try:
            return cls[label.upper()]
        except KeyError:
            known = ", ".join(tier.label for tier in cls)
            raise GeometryError(f"unknown tier '{label}': the tiers are {known}") from None


# The tiers that answer any code, without a network.
CLASSICAL = (Tier.MATCHING, Tier.CORRELATED, Tier.GUARDED)
# The tiers whose networks come with the package.
SOFT = (Tier.SPEED, Tier.ACCURACY)
# What answers instead of an accelerated tier: exact, quick, and in every lane.
FALLBACK = Tier.MATCHING


@dataclass(frozen=True, slots=True)
class Answers:
    """What a decoder says about B windows.

    Attributes:
        bits: ``(B, frame_bytes + seam_bytes)`` uint8: frame update, then the seam records.
        feasible: ``(B,)`` bool: False where no set of mechanisms explains the syndrome; the bits
            of the part that could not be explained are zero there.
        confidence: ``(B,)`` float32: probability that the frame update is right; NaN where it is
            not known, None where nobody asked.
        tiers: ``(B,)`` uint8: the tier that answered; None where it is the one that was asked.
    """

    bits: Bytes
    feasible: NDArray[np.bool_]
    confidence: NDArray[np.float32] | None = None
    tiers: Bytes | None = None

    def part(self, start: int, end: int) -> Answers:
        """The answers to windows `start` to `end` (exclusive)."""
        rows = slice(start, end)
        return Answers(
            self.bits[rows],
            self.feasible[rows],
            None if self.confidence is None else self.confidence[rows],
            None if self.tiers is None else self.tiers[rows],
        )


class CompiledWindow(Protocol):
    """A decoder for one kind of window."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about this decoder (conflicting edges, slow path), if any."""
        ...

    def decode(self, syndromes: Bytes) -> Answers:
        """Decode ``(B, rounds * record_bytes)`` uint8: B windows of packed round records."""
        ...


class RecordDecoder(Protocol):
    """Whatever decodes whole shots: a tier in its windows, a rule that switches between tiers."""

    def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
        """``(B, rounds, record_bytes)`` uint8 → frames ``(B, frame_bytes)`` uint8, and ``(B,)``.

        The bool is False where a shot had no explanation.
        """
        ...
