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
from qdec.windows.cut import Edges, Problem, merge_parallel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SoftGap:
    """Measures the gap of windows that come with the log-odds of their edges."""

    def __init__(self, matchers: list[tuple[SparseMatcher, Ints, Bytes]], side: int) -> None:
        """One matcher for each observable, with its edges among the window's, and its nodes.

        `side` is the node that is the boundary which flips it.
        """
        self._matchers = matchers
        self._side = side

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


def _places(inside: Edges, edges: Edges, num_nodes: int) -> Ints:
    """Where edges of the closed window are among those of the open one, which has them all."""

    def key(one: Edges) -> Ints:
        low, high = np.minimum(one.u, one.v) + 1, np.maximum(one.u, one.v)
        return np.asarray(low * (num_nodes + 1) + high)

    keys = key(edges)
    order = np.argsort(keys)
    return order[np.searchsorted(keys[order], key(inside))]
