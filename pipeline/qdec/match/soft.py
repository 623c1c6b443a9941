"""A window answered by a network's opinion of every edge, matched exactly.

The network says how likely each edge is, given the whole syndrome, X and Z together. Minus the
log-odds are the edges' weights, for this window alone, and the answer is the lightest explanation
of the syndrome under them. Whatever the network says, the answer explains the syndrome.

The network's answer is the likeliest set of edges, each by itself. Where it hardly weighs less than
the best answer with another frame (the complementary gap), that is not good enough: the window is
looked at again, for what is likelier as faults (`qdec.match.review`). Such windows are few, so that
may take its time. Last, a window that at most (d - 1) / 2 faults explain gets their answer,
whatever the network and the review say (`GuardedWindow.overrule`).
"""

from __future__ import annotations

import logging
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes, unpack
from qdec.codes import Code
from qdec.match.ahead import Ahead
from qdec.match.confidence import EVENTS, SOFT_GAP, SignalKind, minus_events
from qdec.match.edge_odds import EdgeOdds, Floats
from qdec.match.guarded import GuardedWindow, guarded_window
from qdec.match.joint import JointDecoder
from qdec.match.matching import MatchingWindow
from qdec.match.review import Gaps, JointReview, Review, SecondOpinion
from qdec.match.settled import Settled
from qdec.match.soft_gap import SoftGap
from qdec.match.sparse import SparseAnswers, SparseMatcher
from qdec.match.tier import Answers, CompiledWindow, Tier
from qdec.neural.engine import CompiledNetwork
from qdec.neural.folded_model import FoldedModel
from qdec.neural.grid import EdgeClasses, Lattice, WindowGrid
from qdec.windows.cut import Erasure, cut, cut_closed, merge_parallel
from qdec.windows.geometry import Window

log = logging.getLogger("qdec.match")

# Windows that go through the network at once: beyond, its planes leave the caches.
_AT_ONCE = 64


class SoftWindow:
    """Network, edge weights, sparse matching. Not for two threads at once.

    Attributes:
        network: as given.
        grid: as given.
        matcher: as given.
        gap: as given.
        ahead: ``(B, E)`` float32 log-odds of windows; see `log_odds`. Or the answers themselves,
            which serve `decode` alone.
        notes: see `CompiledWindow.notes`.
    """

    def __init__(
        self,
        tier: Tier,
        network: CompiledNetwork,
        grid: WindowGrid,
        matcher: SparseMatcher,
        fallback: CompiledWindow,
        gap: SoftGap | None = None,
        review: Review | None = None,
        guard: GuardedWindow | None = None,
    ) -> None:
        """Join the parts, all of the same window.

        Args:
            tier: what it is called.
            network: ``(B, 4, T, H, W)`` events → ``(B, channels, T, H, W)``.
            grid: where the window's nodes and edges are.
            matcher: of the window's edges, in the grid's order.
            fallback: answers where the network's output is not finite.
            gap: measures how sure an answer is.
            review: looks again at the windows with a small gap, if anything is to.
            guard: overrules answers where few faults explain a window, if anything is to.
        """
        self._tier = tier
        self.network = network
        self.grid = grid
        self._odds = EdgeOdds(grid)
        self.matcher = matcher
        self._fallback = fallback
        self._nodes = np.flatnonzero(grid.node_at >= 0)
        self._cells = grid.node_at[self._nodes]
        self._num_nodes = len(grid.node_at)
        self._shape = grid.shape
        self._sick = False
        self.gap = gap
        self._review = review
        self._guard = guard
        self.ahead: Ahead[Floats | Settled] = Ahead(self._all_odds)
        self.notes = fallback.notes

    @property
    def signal(self) -> SignalKind:
        """See `SignallingWindow.signal`."""
        return EVENTS if self.gap is None else SOFT_GAP

    @property
    def apart(self) -> float:
        """The gap, in nats, below which `decode` looks at a window again; 0 where it never does."""
        return 0.0 if self._review is None or self.gap is None else self._review.below

    def decode_signalled(self, syndromes: Bytes) -> tuple[Answers, Gaps]:
        """See `SignallingWindow.decode_signalled`."""
        if self.gap is None or not len(syndromes):
            return self.decode(syndromes), minus_events(syndromes)
        odds = self.ahead(syndromes)
        if isinstance(odds, Settled):  # whose answers say nothing of how sure they are
            odds = self._all_odds(syndromes)
        gap = self.gap.measure(odds, syndromes)
        found = self.matcher.decode(odds, syndromes)
        return self._answer(odds, syndromes, found, gap), gap

    def log_odds(self, syndromes: Bytes) -> Floats:
        """``(B, E)`` float32: the network's opinion of every edge."""
        events = np.zeros((len(syndromes), 4 * int(np.prod(self._shape))), dtype=np.float32)
        events[:, self._cells] = unpack(syndromes, self._num_nodes)[:, self._nodes]
        return self._odds(self.network(events.reshape(-1, 4, *self._shape)))

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`. What the network cannot judge, `fallback` answers."""
        if not len(syndromes):
            return self._fallback.decode(syndromes)
        found = self.ahead(syndromes)
        if not isinstance(found, Settled):
            return self._from_odds(found, syndromes)
        bits, rest = found.bits.copy(), found.rest
        feasible = np.ones(len(bits), dtype=np.bool_)
        tiers = np.full(len(bits), self._tier, dtype=np.uint8)
        settled = np.setdiff1d(np.arange(len(bits)), rest, assume_unique=True)
        bits[settled] = self._overruled(bits[settled], syndromes[settled])[0]
        if len(rest):
            others = self._from_odds(found.odds, syndromes[rest])
            bits[rest], feasible[rest] = others.bits, others.feasible
            if others.tiers is not None:
                tiers[rest] = others.tiers
                return Answers(bits, feasible, tiers=tiers)
        return Answers(bits, feasible)

    def _from_odds(self, odds: Floats, syndromes: Bytes) -> Answers:
        if self._review is None or self.gap is None:
            return self._answer(odds, syndromes, self.matcher.decode(odds, syndromes), None)
        found, chosen = self.matcher.solve(odds, syndromes)
        gap = self.gap.below(odds, syndromes, chosen, self._review.below)
        return self._answer(odds, syndromes, found, gap)

    def _all_odds(self, syndromes: Bytes) -> Floats:
        starts = range(0, len(syndromes), _AT_ONCE)
        return np.concatenate([self.log_odds(syndromes[i : i + _AT_ONCE]) for i in starts])

    def _overruled(self, bits: Bytes, syndromes: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
        """Answers where few faults explain a window, and which of them are other ones."""
        bits, others = bits.copy(), np.zeros(len(bits), dtype=np.bool_)
        if self._guard is not None:
            others[self._guard.overrule(bits, syndromes)] = True
        return bits, others

    def _answer(
        self, odds: Floats, syndromes: Bytes, found: SparseAnswers, gap: Gaps | None
    ) -> Answers:
        """What was matched; what is unsure is reviewed, and its gap is then the review's."""
        bits, sick = found.bits, found.sick
        if self._review is not None and gap is not None:
            unsure = np.flatnonzero((gap < self._review.below) & found.feasible)
            bits[unsure], gap[unsure] = self._review(
                odds[unsure], syndromes[unsure], bits[unsure], gap[unsure]
            )
        answered = np.flatnonzero(found.feasible)
        bits[answered], overruled = self._overruled(bits[answered], syndromes[answered])
        if gap is not None:
            gap[answered[overruled]] = 0.0  # the likelier answer was another one
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
        GeometryError: the window is too large for it, or a mechanism is more likely than not.
        EngineError: the engine cannot run it.
    """
    problem = cut(code.spacetime, window, erasures)
    matching = MatchingWindow(problem)
    if erasures:
        return MatchedInstead(matching)
    edges = merge_parallel(problem)
    grid = _lattice(code, model.network.arch.classes).grid(window, problem, edges)
    closed = cut_closed(code.spacetime, window)
    guard = guarded_window(problem, code.distance)
    joint = JointDecoder.of(problem, closed, edges)
    review: Review = SecondOpinion(guard) if joint is None else JointReview(joint)
    return SoftWindow(
        tier,
        model.compile(grid),
        grid,
        SparseMatcher.from_problem(problem),
        matching,
        gap=SoftGap.of(closed, edges),
        review=review,
        guard=guard,
    )


@lru_cache(maxsize=16)
def _lattice(code: Code, classes: EdgeClasses) -> Lattice:
    return Lattice(code, classes)
