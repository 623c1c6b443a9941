"""A window answered by a network's opinion of every edge, matched exactly.

The network says how likely each edge is, given the whole syndrome, X and Z together. Minus the
log-odds are the edges' weights, for this window alone, and the answer is the lightest explanation
of the syndrome under them. Whatever the network says, the answer explains the syndrome.

A tier may have a *second opinion*: another decoder looks at every window, and where the two
disagree and the network's answer hardly weighs less than the best one with another frame (the
complementary gap), the other's stands. The two fail on different windows, so together they fail on
fewer than either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes, unpack
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.match.confidence import EVENTS, SOFT_GAP, SignalKind, minus_events
from qdec.match.correlated import correlated_window
from qdec.match.edge_odds import EdgeOdds, Floats
from qdec.match.matching import MatchingWindow
from qdec.match.soft_gap import SoftGap
from qdec.match.sparse import SparseMatcher
from qdec.match.tier import Answers, CompiledWindow, Tier
from qdec.neural.engine import CompiledNetwork
from qdec.neural.folded_model import FoldedModel
from qdec.neural.grid import EdgeClasses, Lattice, WindowGrid
from qdec.windows.cut import Erasure, Problem, cut, cut_closed, merge_parallel
from qdec.windows.geometry import Window

log = logging.getLogger("qdec.match")

# Windows that go through the network at once: beyond, its planes leave the caches.
_AT_ONCE = 64
# Gap, in nats, below which a second opinion counts for more. Measured with the shipped `accuracy`
# network: between 2 and 4 the failures hardly change, at d = 5 and 7, p = .003 and .006.
_UNSURE = 3.0


class SoftWindow:
    """Network, edge weights, sparse matching. Not for two threads at once."""

    def __init__(
        self,
        tier: Tier,
        network: CompiledNetwork,
        grid: WindowGrid,
        matcher: SparseMatcher,
        fallback: CompiledWindow,
        gap: Callable[[], SoftGap | None] = lambda: None,
        second: CompiledWindow | None = None,
    ) -> None:
        """Join the parts, all of the same window.

        Args:
            tier: what it is called.
            network: ``(B, 4, T, H, W)`` events → ``(B, channels, T, H, W)``.
            grid: where the window's nodes and edges are.
            matcher: of the window's edges, in the grid's order.
            fallback: answers where the network's output is not finite.
            gap: makes what measures how sure an answer is, once somebody asks.
            second: the second opinion, if there is to be one.
        """
        self._tier = tier
        self._network = network
        self._odds = EdgeOdds(grid)
        self._matcher = matcher
        self._fallback = fallback
        self._nodes = np.flatnonzero(grid.node_at >= 0)
        self._cells = grid.node_at[self._nodes]
        self._num_nodes = len(grid.node_at)
        self._shape = grid.shape
        self._sick = False
        self._make_gap = gap
        self._second = second
        self.notes = fallback.notes

    @cached_property
    def _gap(self) -> SoftGap | None:
        return self._make_gap()

    @property
    def signal(self) -> SignalKind:
        """See `SignallingWindow.signal`."""
        return EVENTS if self._gap is None else SOFT_GAP

    def decode_signalled(self, syndromes: Bytes) -> tuple[Answers, NDArray[np.float64]]:
        """See `SignallingWindow.decode_signalled`."""
        if self._gap is None or not len(syndromes):
            return self.decode(syndromes), minus_events(syndromes)
        odds = self._all_odds(syndromes)
        return self._answer(odds, syndromes), self._gap.measure(odds, syndromes)

    def log_odds(self, syndromes: Bytes) -> Floats:
        """``(B, E)`` float32: the network's opinion of every edge."""
        events = np.zeros((len(syndromes), 4 * int(np.prod(self._shape))), dtype=np.float32)
        events[:, self._cells] = unpack(syndromes, self._num_nodes)[:, self._nodes]
        return self._odds(self._network(events.reshape(-1, 4, *self._shape)))

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`. What the network cannot judge, `fallback` answers."""
        if not len(syndromes):
            return self._fallback.decode(syndromes)
        return self._answer(self._all_odds(syndromes), syndromes)

    def _all_odds(self, syndromes: Bytes) -> Floats:
        starts = range(0, len(syndromes), _AT_ONCE)
        return np.concatenate([self.log_odds(syndromes[i : i + _AT_ONCE]) for i in starts])

    def _answer(self, odds: Floats, syndromes: Bytes) -> Answers:
        found = self._matcher.decode(odds, syndromes)
        bits = self._reconsidered(odds, syndromes, found.bits)
        sick = found.sick
        if not sick.any():
            return Answers(bits, found.feasible)
        if not self._sick:
            log.error("the network's output is not finite: such windows are only matched")
            self._sick = True
        others = self._fallback.decode(syndromes[sick])
        bits, feasible = bits.copy(), found.feasible.copy()
        bits[sick], feasible[sick] = others.bits, others.feasible
        tiers = np.where(sick, Tier.MATCHING, self._tier).astype(np.uint8)
        return Answers(bits, feasible, tiers=tiers)

    def _reconsidered(self, odds: Floats, syndromes: Bytes, bits: Bytes) -> Bytes:
        """The network's answers, or the second opinion where it is not sure of its own."""
        if self._second is None or self._gap is None:
            return bits
        other = self._second.decode(syndromes)
        differs = np.flatnonzero((bits != other.bits).any(axis=1) & other.feasible)
        if not len(differs):
            return bits
        unsure = differs[self._gap.measure(odds[differs], syndromes[differs]) < _UNSURE]
        bits[unsure] = other.bits[unsure]
        return bits


class MatchedInstead:
    """What plain matching answers where a tier cannot, and says so."""

    def __init__(self, matching: CompiledWindow) -> None:
        """Wrap the window's plain matching."""
        self._matching = matching
        self.notes = matching.notes

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        answers = self._matching.decode(syndromes)
        tiers = np.full(len(syndromes), Tier.MATCHING, dtype=np.uint8)
        return Answers(answers.bits, answers.feasible, answers.confidence, tiers)


def soft_window(
    code: Code, tier: Tier, window: Window, model: FoldedModel, erasures: tuple[Erasure, ...] = ()
) -> CompiledWindow:
    """Put a network and sparse matching together for a window.

    A window with lost bits is matched plainly: networks have not learned what is missing.

    Raises:
        CodeError: the network does not suit the code.
        GeometryError: the window is too large for it, or its buffer too short.
        EngineError: the engine cannot run it.
    """
    problem = cut(code.spacetime, window, erasures)
    matching = MatchingWindow(problem)
    if erasures:
        return MatchedInstead(matching)
    edges = merge_parallel(problem)
    grid = _lattice(code, model.network.arch.classes).grid(window, problem, edges)
    return SoftWindow(
        tier,
        model.compile(grid),
        grid,
        SparseMatcher.from_problem(problem),
        matching,
        gap=lambda: SoftGap.of(cut_closed(code.spacetime, window), edges),
        second=_second_opinion(problem) if tier is Tier.ACCURACY else None,
    )


def _second_opinion(problem: Problem) -> CompiledWindow | None:
    try:
        return correlated_window(problem)
    except GeometryError:  # mechanisms that are more likely than not
        return None


@lru_cache(maxsize=16)
def _lattice(code: Code, classes: EdgeClasses) -> Lattice:
    return Lattice(code, classes)
