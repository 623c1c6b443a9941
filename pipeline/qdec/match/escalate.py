"""Decoder switching: the windows that a tier is least sure of go to a stronger one.

A fast decoder answers every window and says how sure it is; only where it is not does a slower one
look at the same syndrome ("Decoder switching", arXiv 2510.25222). The stronger tier is asked where
the weaker one all but guesses, so what it gives away elsewhere counts less: correlated matching
fails on some single faults at d = 3, but matching is sure of those by the weight of one fault more,
and that grows as noise falls, so below some noise they never go up. The gate says whether a stream
is there (`qdec.match.fence` tries the ladder, not its tiers). Between matching and
guarded matching nothing is lost at any noise, because neither loses it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdec.bits import Bytes
from qdec.match.confidence import Calibration, Floats, SignallingWindow
from qdec.match.tier import Answers, CompiledWindow, Tier


@dataclass(frozen=True, slots=True)
class Switching:
    """What is wanted beyond a tier's bare answer.

    Attributes:
        confidence: say how sure answers are.
        tiers: who is asked next, in this order, about windows that are not sure enough.
        below: the confidence that is not enough.
    """

    confidence: bool = False
    tiers: tuple[Tier, ...] = ()
    below: float = 0.0

    def __bool__(self) -> bool:
        """Whether anything is wanted."""
        return self.confidence or bool(self.tiers)

    @property
    def of_one_tier(self) -> Switching:
        """What of it a tier can do that answers instead, in a hurry: it asks nobody."""
        return Switching(self.confidence)

    @property
    def digest(self) -> bytes:
        """8 bytes that stand for all of it that answers depend on; zeros where nobody is asked.

        To say how sure answers are changes none.
        """
        if not self.tiers:
            return bytes(8)
        said = struct.pack("<d", self.below) + bytes(self.tiers)
        return hashlib.blake2b(said, digest_size=8).digest()


NO_SWITCHING = Switching()


@dataclass(frozen=True, slots=True)
class Rung:
    """A tier on the ladder.

    Attributes:
        tier: which.
        window: its window. One that has a signal of its own goes by that; another one, and the
            calibration with it, by the signal of the tier before.
        calibration: what the signal says of this tier's answers.
    """

    tier: Tier
    window: CompiledWindow
    calibration: Calibration


class EscalatingWindow:
    """Tiers in order; each answers the windows that the one before was not sure of."""

    def __init__(self, rungs: Sequence[Rung], below: float) -> None:
        """Climb from a rung to the next where the confidence is not `below` or more.

        The first rung's window has a signal.
        """
        self._rungs = tuple(rungs)
        self._below = below
        self.notes = tuple(dict.fromkeys(n for rung in rungs for n in rung.window.notes))

    @property
    def asked_first(self) -> CompiledWindow:
        """See `qdec.match.ahead.Wrapping`."""
        return self._rungs[0].window

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        first, *others = self._rungs
        answers, signals = signalled(first.window, syndromes)
        assert signals is not None
        bits, feasible = answers.bits.copy(), answers.feasible.copy()  # they may be shared
        confidence = first.calibration.apply(signals)
        tiers = _answered(answers, first.tier)
        for rung in others:
            rows = np.flatnonzero(~(confidence >= self._below))  # NaN is not sure enough
            if not len(rows):
                break
            more, own = signalled(rung.window, syndromes[rows])
            if own is not None:
                signals[rows] = own
            bits[rows], feasible[rows] = more.bits, more.feasible
            confidence[rows] = rung.calibration.apply(signals[rows])
            tiers[rows] = _answered(more, rung.tier)
        confidence[~feasible] = np.nan
        return Answers(bits, feasible, confidence, tiers)


def signalled(window: CompiledWindow, syndromes: Bytes) -> tuple[Answers, Floats | None]:
    """Answers, and the window's own signal if it has one."""
    if isinstance(window, SignallingWindow):
        return window.decode_signalled(syndromes)
    return window.decode(syndromes), None


def _answered(answers: Answers, tier: Tier) -> Bytes:
    """``(B,)`` uint8: who answered, which need not be who was asked."""
    if answers.tiers is not None:
        return answers.tiers.copy()
    return np.full(len(answers.bits), tier, dtype=np.uint8)
