"""The complementary gap under a network's weights: see `qdec.match.gap`.

The edges, and what their weights are, change from window to window; the graph in which one side's
boundary is a node does not. So the sparse matcher takes the weights as they come, once for each
class. It costs a small part of what the network does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes, pack
from qdec.match.gap import MAX_OBSERVABLES, NO_RIVAL, boundary_classes, flips_of
from qdec.match.sparse import SparseMatcher
from qdec.match.sparse.ways import Ways
from qdec.windows.cut import Edges, Problem, merge_parallel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Nats, far more than sums of weights are off by.
_ROUNDING = 1e-3


class SoftGap:
    """Measures the gap of windows that come with the log-odds of their edges."""

    def __init__(self, matchers: list[tuple[SparseMatcher, Ints, Bytes]], side: int) -> None:
        """One matcher for each observable, with its edges among the window's, and its nodes.

        `side` is the node that is the boundary which flips it.
        """
        self._matchers = matchers
        self._side = side
        self._ways = [Ways(matcher, side) for matcher, _, _ in matchers]

    @property
    def measured(self) -> list[tuple[Ints, NDArray[np.bool_]]]:
        """Of each observable: edges that lie between its sides, and which end on the one that
        flips it.
        """
        return [(place, m.ends[:, 1] == self._side) for m, place, _ in self._matchers]

    @classmethod
    def of(cls, closed: Problem, edges: Edges) -> SoftGap | None:
        """A meter; None if an observable has no gap.

        Args:
            closed: the window's problem with its end closed (`qdec.windows.cut.cut_closed`).
            edges: the window's edges, in the order of the log-odds.
        """
        observables = np.unique(closed.ids).tolist()
        if len(observables) > MAX_OBSERVABLES:
            return None
        inside = merge_parallel(closed)
        place = _places(inside, edges, closed.num_nodes)
        matchers = []
        for observable in observables:
            classes = boundary_classes(closed, flips_of(closed, observable))
            if classes is None:
                return None
            side, mask = classes
            kept = np.flatnonzero(mask[inside.u])
            if not len(kept):
                continue
            far = np.where(side[inside.component], closed.num_nodes, inside.v)[kept]
            none = np.zeros(0, dtype=np.int64)
            matcher = SparseMatcher(
                closed.num_nodes + 8,
                inside.u[kept],
                far,
                np.zeros(len(kept) + 1, dtype=np.int64),
                none,
                0,
            )
            matchers.append((matcher, place[kept], pack(mask)))
        return cls(matchers, closed.num_nodes)

    def measure(self, log_odds: NDArray[np.float32], syndromes: Bytes) -> Floats:
        """``(B,)`` float64 gaps, in nats as the network counts them; NaN where it is not finite.

        Args:
            log_odds: ``(B, E)`` float32 of the window's edges.
            syndromes: ``(B, num_nodes/8)`` uint8.
        """
        gap = np.full(len(syndromes), NO_RIVAL)
        for matcher, place, mask in self._matchers:
            odds = np.ascontiguousarray(log_odds[:, place])
            masked = syndromes & mask
            weight = []
            for parity in (0, 1):
                side = np.full((len(syndromes), 1), parity, dtype=np.uint8)
                weight.append(matcher.decode(odds, np.concatenate([masked, side], axis=1)).weight)
            # Infinite where a class has no solution; NaN where neither has, or the odds are none.
            with np.errstate(invalid="ignore"):
                np.minimum(gap, np.abs(weight[1] - weight[0]), out=gap)
        return gap

    def below(
        self,
        log_odds: NDArray[np.float32],
        syndromes: Bytes,
        chosen: NDArray[np.bool_],
        bound: float,
    ) -> Floats:
        """`measure`, where gaps are below a bound; elsewhere anything that is not.

        To prove that a gap is large costs little beside finding the best solution of the worse
        class, which is far from any that the syndrome suggests. From the better class's best, of
        weight w beyond the likelier sides, another class is reached over a way from one side to
        the other, which gains at most w on it: so where no way is shorter than the bound and w,
        edges that were matched being free, the gap is as large as the bound.

        Args:
            log_odds, syndromes: as `measure`.
            chosen: ``(B, E)`` edges of the window's best answer, whose class is tried first.
            bound: in nats.
        """
        gap = np.full(len(syndromes), NO_RIVAL)
        for (matcher, place, mask), ways in zip(self._matchers, self._ways, strict=True):
            odds = np.ascontiguousarray(log_odds[:, place])
            ends = np.flatnonzero(matcher.ends[:, 1] == self._side)
            parity = chosen[:, place[ends]].sum(axis=1, dtype=np.uint8)[:, None] & np.uint8(1)
            masked = syndromes & mask
            mine, edges = matcher.solve(odds, np.concatenate([masked, parity], axis=1))
            apart = ways.none_shorter(odds, edges, mine.residual + bound + _ROUNDING)
            rows = np.flatnonzero(~apart)
            other = np.concatenate([masked[rows], parity[rows] ^ np.uint8(1)], axis=1)
            weight = matcher.decode(odds[rows], other).weight
            with np.errstate(invalid="ignore"):
                gap[rows] = np.minimum(gap[rows], np.abs(weight - mine.weight[rows]))
        return gap


def _places(inside: Edges, edges: Edges, num_nodes: int) -> Ints:
    """Where edges of the closed window are among those of the open one, which has them all."""

    def key(one: Edges) -> Ints:
        low, high = np.minimum(one.u, one.v) + 1, np.maximum(one.u, one.v)
        return np.asarray(low * (num_nodes + 1) + high)

    keys = key(edges)
    order = np.argsort(keys)
    return order[np.searchsorted(keys[order], key(inside))]
