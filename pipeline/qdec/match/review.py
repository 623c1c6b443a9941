"""A second look at windows in which a network is not sure of its answer.

Its gap (`qdec.match.soft_gap`) says which: where another frame's best explanation weighs hardly
more, what the network counts as independent edges is looked at as faults.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.match.edge_odds import Floats
from qdec.match.joint import JointDecoder
from qdec.match.tier import CompiledWindow

Gaps = NDArray[np.float64]
# Windows reviewed at once: what is kept of each on the way takes some 100 kB at d = 9.
_AT_ONCE = 64


class Review(Protocol):
    """Looks again at some windows of a kind."""

    @property
    def below(self) -> float:
        """The gap, in nats, below which windows are to be looked at."""
        ...

    def __call__(
        self, odds: Floats, syndromes: Bytes, bits: Bytes, gap: Gaps
    ) -> tuple[Bytes, Gaps]:
        """Answers that stand, and how sure they are.

        Args:
            odds: ``(B, E)`` float32 log-odds of the window's edges.
            syndromes: ``(B, num_nodes/8)`` uint8.
            bits: ``(B, answer_bytes)`` uint8: the network's answers.
            gap: ``(B,)`` float64 nats: their gaps.
        """
        ...


class JointReview:
    """X and Z together: nearly all that soft tiers gain over correlated matching comes from here.

    `below`: with the shipped networks that is 7 % of the windows of d = 5 at p = .006 and 1 % at
    p = .003; with 5 nats it would be half as many, and 3 % more failures.
    """

    below = 8.0

    def __init__(self, joint: JointDecoder) -> None:
        """For windows of a decoder's kind."""
        self._joint = joint

    def __call__(
        self, odds: Floats, syndromes: Bytes, bits: Bytes, gap: Gaps
    ) -> tuple[Bytes, Gaps]:
        """See `Review`. What the joint search does not find stays as it is."""
        bits, gap = bits.copy(), gap.copy()
        for start in range(0, len(odds), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            found = self._joint.decode(odds[rows], syndromes[rows])
            known = np.isfinite(found.weight)
            bits[rows][known], gap[rows][known] = found.bits[known], found.gap[known]
        return bits, gap


class SecondOpinion:
    """Another decoder's answers, for codes with several observables.

    `below`: measured with correlated matching; between 2 and 4 nats the failures hardly change.
    """

    below = 3.0

    def __init__(self, other: CompiledWindow) -> None:
        """Take the answers of `other`, where it has any."""
        self._other = other

    def __call__(
        self, odds: Floats, syndromes: Bytes, bits: Bytes, gap: Gaps
    ) -> tuple[Bytes, Gaps]:
        """See `Review`."""
        found = self._other.decode(syndromes)
        return np.where(found.feasible[:, None], found.bits, bits), gap
