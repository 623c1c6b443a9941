"""Uncorrelated minimum-weight perfect matching of one window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qdec.bits import Bytes, pack
from qdec.codes.rows import gather_rows, owners
from qdec.match.graph import FAST_IDS, Graph, error_lines, graph_from_lines, targets
from qdec.match.tier import Answers
from qdec.windows.cut import Edges, Problem, merge_parallel

Ints = NDArray[np.int64]


class MatchingWindow:
    """PyMatching over a window, split by basis where that keeps it on its 64-bit fast path.

    X and Z detectors never share an edge, so they may be matched apart. As long as the window's
    ids fit in 64 bits one graph is cheaper than two; beyond, connected components are packed into
    as few graphs of at most 64 ids as first-fit finds.
    """

    def __init__(self, problem: Problem) -> None:
        """Compile the problem's graphs."""
        edges = merge_parallel(problem)
        self._bytes = problem.num_ids // 8
        self._graphs = _compile(problem, edges)
        notes = []
        if edges.conflicts:
            notes.append(
                f"{edges.conflicts} edges join mechanisms that disagree about what they flip; "
                "the first one's answer stands"
            )
        self.notes = tuple(notes)

    @property
    def num_graphs(self) -> int:
        """Graphs the window was split into."""
        return len(self._graphs)

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        first, *others = self._graphs
        answer, feasible = first.predict(syndromes, self._bytes)
        for graph in others:
            more, ok = graph.predict(syndromes, self._bytes)
            answer ^= more  # ids are shared where an observable lies in two components
            feasible = feasible & ok
        return Answers(answer, feasible)


def _compile(problem: Problem, edges: Edges) -> list[Graph]:
    if problem.num_ids <= FAST_IDS:
        id_ptr, ids = gather_rows(problem.id_ptr, problem.ids, edges.component)
        lines = error_lines(edges.p, targets(edges.u, edges.v, id_ptr, ids))
        mask = None if problem.nodes is None else pack(problem.nodes)
        return [graph_from_lines(lines, problem.num_nodes, problem.num_ids, mask=mask, ids=None)]

    label = _component_of_node(problem.num_nodes, edges)
    label_of_edge = label[edges.u]
    graphs = []
    # Without edges there is one empty graph: every event is infeasible.
    bins = _first_fit(label_of_edge, problem, edges) or [[]]
    for labels in bins:
        chosen = np.flatnonzero(np.isin(label_of_edge, labels))
        id_ptr, ids = gather_rows(problem.id_ptr, problem.ids, edges.component[chosen])
        unique, local = np.unique(ids, return_inverse=True)
        lines = error_lines(
            edges.p[chosen],
            targets(edges.u[chosen], edges.v[chosen], id_ptr, local.reshape(-1)),
        )
        # The last graph also takes the nodes without edges, so that an event on one is noticed.
        others = [one for group in bins if group is not labels for one in group]
        mine = np.isin(label, labels) if labels is not bins[-1] else ~np.isin(label, others)
        if problem.nodes is not None:
            mine &= problem.nodes
        graphs.append(
            graph_from_lines(
                lines,
                problem.num_nodes,
                len(unique),
                mask=None if mine.all() else pack(mine),
                ids=unique,
            )
        )
    return graphs


def _component_of_node(num_nodes: int, edges: Edges) -> Ints:
    pair = edges.v >= 0
    links = coo_array(
        (np.ones(int(pair.sum())), (edges.u[pair], edges.v[pair])), shape=(num_nodes, num_nodes)
    )
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _first_fit(label_of_edge: Ints, problem: Problem, edges: Edges) -> list[list[int]]:
    """Pack connected components into bins of at most `FAST_IDS` distinct ids each."""
    ids_of: dict[int, set[int]] = {label: set() for label in dict.fromkeys(label_of_edge.tolist())}
    id_ptr, all_ids = gather_rows(problem.id_ptr, problem.ids, edges.component)
    labels = label_of_edge[owners(id_ptr)]
    for label, id_ in zip(labels.tolist(), all_ids.tolist(), strict=True):
        ids_of[label].add(id_)
    bins: list[tuple[list[int], set[int]]] = []
    for label, ids in ids_of.items():
        for members, taken in bins:
            if len(taken | ids) <= FAST_IDS:
                members.append(label)
                taken |= ids
                break
        else:
            bins.append(([label], set(ids)))
    return [members for members, _ in bins]
