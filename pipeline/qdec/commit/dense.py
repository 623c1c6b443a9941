"""Windows that are not decoded: so many detection events that nobody should wait for the answer.

A decoder's call cannot be interrupted, and half-dense syndromes take 43 to 48 times as long as
common ones. Where more than a quarter of its detectors fired, an answer is worth little more than a
coin's: under uniform circuit noise that leaves a density of 22 % (25 %), matching d rounds at d=5
(d=9) is right in 69 % (53 %) of the shots. So where such a window would also hold others up, it is
answered at once, by no correction, and its commit says so: UNCERTAIN, at a confidence of one half.

What is ordinary is decoded however long it takes, so a stream whose code is too large for its lane
gets late answers and not wrong ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qdec.bits import Bytes
from qdec.commit.flags import Flag
from qdec.commit.marks import Mark
from qdec.match import Answers, Tier

NEVER = 1 << 62
CONFIDENCE = 0.5
_UNCERTAIN = int(Flag.UNCERTAIN)


def is_dense(events: int, syndrome_bytes: int) -> bool:
    """Whether more than a quarter of a window's bits are set."""
    return events > 2 * syndrome_bytes


def answered_by(tier: int, flags: int) -> Tier | None:
    """What decoded a window, by what its commit says; None if nothing did."""
    return None if flags & _UNCERTAIN else Tier(tier)


class First(NamedTuple):
    """The window of a stream that is decoded next.

    Attributes:
        came: when its last round did.
        cost: ns that decoding it is expected to take; 0 if that is not known.
        dense: whether it is.
    """

    came: Mark
    cost: int
    dense: bool


class NoCorrection:
    """Answers every window by correcting nothing."""

    notes = ()

    def __init__(self, answer_bytes: int) -> None:
        """Give answers of so many bytes."""
        self._width = answer_bytes

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        n = len(syndromes)
        return Answers(
            np.zeros((n, self._width), dtype=np.uint8),
            np.ones(n, dtype=np.bool_),
            np.full(n, CONFIDENCE, dtype=np.float32),
        )
