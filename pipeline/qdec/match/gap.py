"""The complementary gap: how much more a window's best explanation of the other frame weighs.

Where boundary edges of one side of a code flip an observable and those of the other side do not,
the parity of the former that a solution uses is its logical class. Making that side's boundary a
detector fixes the class: matching once with an event there and once without gives the weight of
the best solution of each class, and the difference is the gap (Gidney, Newman, Brooks, Jones 2023,
"Yoked surface codes", arXiv 2312.04522; Bombin et al. 2022, arXiv 2212.00813). It is in nats: were
there but one solution to each class, the odds of the better one would be e^gap.

In Stim's circuits an observable may be flipped by edges anywhere. Which ones is a matter of
convention, so it is changed here: node potentials are added (the parity of the events with
potential 1 is known) until only boundary edges flip it. That can be done unless some loop of edges
inside the code flips it, as on a torus; such an observable has no gap.

A window that ends in mid-stream is measured with its end closed (`qdec.windows.cut.cut_closed`).
Its open end is a boundary that may be reached from either side, and would join the classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qdec.bits import Bits, Bytes, pack
from qdec.codes.mechanisms import combine_probabilities
from qdec.codes.rows import owners
from qdec.match.graph import Graph, error_lines, graph_from_lines, targets
from qdec.windows.cut import Problem

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Each observable is matched twice.
MAX_OBSERVABLES = 8
# What a frame that cannot be confused with another is given: more than any solution weighs.
NO_RIVAL = 1e4


class GapMeter:
    """Measures the gap of windows: the smallest of their observables' gaps."""

    def __init__(self, graphs: list[Graph]) -> None:
        """For graphs whose last eight nodes are the side that flips an observable; see `of`."""
        self._graphs = graphs

    @classmethod
    def of(cls, problem: Problem) -> GapMeter | None:
        """A meter for the windows of a closed problem; None if an observable of it has no gap."""
        observables = np.unique(problem.ids)
        if len(observables) > MAX_OBSERVABLES:
            return None
        graphs = []
        for observable in observables.tolist():
            classes = boundary_classes(problem, flips_of(problem, observable))
            if classes is None:
                return None
            side, mask = classes
            if mask.any():
                graphs.append(_compile(problem, side, mask))
        return cls(graphs)

    def measure(self, syndromes: Bytes) -> Floats:
        """``(B,)`` float64 gaps, in nats, of ``(B, num_nodes/8)`` uint8 syndromes.

        `NO_RIVAL` where no observable can be flipped; NaN where a class has no solution.
        """
        gap = np.full(len(syndromes), NO_RIVAL)
        for graph in self._graphs:
            masked = syndromes if graph.mask is None else syndromes & graph.mask
            weight = [_weights(graph, masked, parity) for parity in (0, 1)]
            np.minimum(gap, np.abs(weight[1] - weight[0]), out=gap)
        return gap


def flips_of(problem: Problem, observable: int) -> Bits:
    """``(K,)`` components that flip an observable. (One that lists it twice does not.)"""
    owner = owners(problem.id_ptr)[problem.ids == observable]
    return np.asarray(np.bincount(owner, minlength=len(problem.u)) % 2 == 1)


def boundary_classes(problem: Problem, flips: Bits) -> tuple[Bits, Bits] | None:
    """Move an observable onto boundary edges.

    Args:
        problem: a closed problem.
        flips: ``(K,)`` components that flip the observable.

    Returns:
        ``(K,)`` boundary components of the side that flips it now, and ``(num_nodes,)`` nodes of
        the connected parts that have boundary edges of both sides; None if that cannot be done.
    """
    n = problem.num_nodes
    inner = problem.v >= 0
    u, v, odd = problem.u[inner], problem.v[inner], flips[inner]
    # Every node twice, once for each potential: an edge that flips leads to the other one.
    to, other = np.where(odd, v + n, v), np.where(odd, v, v + n)
    label = _labels(2 * n, np.concatenate([u, u + n]), np.concatenate([to, other]))
    if (label[u] == label[u + n]).any():
        return None  # a loop comes back with the other potential
    part = _labels(n, u, v)
    _, root = np.unique(part, return_index=True)
    potential = label[:n] != label[root[part]]
    side = ~inner & (flips ^ potential[problem.u])
    parts = root.size
    ones = np.bincount(part[problem.u[side]], minlength=parts) > 0
    zeros = np.bincount(part[problem.u[~inner & ~side]], minlength=parts) > 0
    return side, (ones & zeros)[part]


def _labels(nodes: int, u: Ints, v: Ints) -> Ints:
    links = coo_array((np.ones(len(u)), (u, v)), shape=(nodes, nodes))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _compile(problem: Problem, side: Bits, mask: Bits) -> Graph:
    """The graph in which one side's boundary is node `num_nodes`."""
    n = problem.num_nodes
    chosen = np.flatnonzero(mask[problem.u])
    u = problem.u[chosen]
    v = np.where(side[chosen], n, problem.v[chosen])
    low, high = np.where(v >= 0, np.minimum(u, v), u), np.where(v >= 0, np.maximum(u, v), -1)
    _, first, which = np.unique(low * (n + 2) + high + 1, return_index=True, return_inverse=True)
    p = combine_probabilities(problem.p[chosen], which.reshape(-1), len(first))
    none = np.zeros(0, dtype=np.int64)
    lines = error_lines(p, targets(low[first], high[first], np.zeros(1, dtype=np.int64), none))
    every = None if mask.all() else pack(mask)
    return graph_from_lines(lines, n + 8, 0, mask=every, ids=None)


def _weights(graph: Graph, syndromes: Bytes, parity: int) -> Floats:
    """``(B,)`` weights of the best solutions of a class; NaN where there is none."""
    side = np.full((len(syndromes), 1), parity, dtype=np.uint8)
    shots = np.concatenate([syndromes, side], axis=1)
    return _decode_weights(graph, shots)


def _decode_weights(graph: Graph, shots: Bytes) -> Floats:
    try:
        _, weights = graph.matching.decode_batch(
            shots, bit_packed_shots=True, bit_packed_predictions=True, return_weights=True
        )
        return np.asarray(weights, dtype=np.float64)
    except ValueError:  # for the whole batch, if one shot has no solution
        if len(shots) == 1:
            return np.full(1, np.nan)
    return np.concatenate([_decode_weights(graph, shots[i : i + 1]) for i in range(len(shots))])
