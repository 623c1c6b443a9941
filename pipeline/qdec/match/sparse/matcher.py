"""`SparseMatcher`: arrays in, checked; answers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bits, Bytes, num_bytes, pack
from qdec.codes.rows import gather_rows
from qdec.errors import DataError, GeometryError
from qdec.match.sparse import kernels
from qdec.match.sparse.rebuilt import RebuiltMatching
from qdec.match.sparse.state import Floats, Graph, Int64s, make_graph, make_scratch
from qdec.windows.cut import Problem, merge_parallel

# Everything below is indexed with 32 bits, and a window this large is no window.
_MOST = 1 << 24


class Route(IntEnum):
    """How a window was answered."""

    EMPTY = kernels.EMPTY
    """The likely edges explain it: nothing to match."""
    LOCAL = kernels.LOCAL
    """Matched in clusters, proved optimal over all edges."""
    FULL = kernels.FULL
    """Beyond the bounds on work: PyMatching, with all weights."""
    INFEASIBLE = kernels.INFEASIBLE
    """No set of edges explains it."""
    SICK = kernels.SICK
    """Some log-odds are NaN: not decoded."""
    UNFINISHED = kernels.SICK + 1
    """Beyond the bounds on work, of a matcher that is not `complete`: not decoded."""


@dataclass(frozen=True, slots=True)
class SparseAnswers:
    """What was found for B windows.

    Attributes:
        bits: ``(B, num_ids/8)`` uint8: XOR of the ids of the chosen edges; zero where there is
            no answer.
        weight: ``(B,)`` float64: sum of minus the log-odds of the chosen edges; inf where
            infeasible or unfinished, NaN where sick.
        residual: ``(B,)`` float64: how much more that is than the likelier side of every edge
            weighs: 0 where the network contradicts the syndrome nowhere, and the larger, the
            harder it was to reconcile the two. Inf and NaN as `weight`.
        route: ``(B,)`` uint8: how each was answered (`Route`).
    """

    bits: Bytes
    weight: Floats
    residual: Floats
    route: Bytes

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """``(B,)``: whether the chosen edges explain the syndrome."""
        return np.asarray(self.route <= kernels.FULL)

    @property
    def sick(self) -> NDArray[np.bool_]:
        """``(B,)``: whether the log-odds made no sense, so that another decoder must answer."""
        return np.asarray(self.route == Route.SICK)

    @property
    def counts(self) -> Mapping[Route, int]:
        """Windows by how they were answered."""
        number = np.bincount(self.route, minlength=len(Route)).tolist()
        return {route: number[route] for route in Route}


class SparseMatcher:
    """Matches windows of one kind, each with its own log-odds. See `qdec.match.sparse`.

    Not for two threads at once: it works in memory that it made beforehand.

    Args:
        num_nodes: nodes of the window, counted in bits of its syndrome.
        u, v: ``(E,)`` ends of each edge, v = -1 for the boundary; no two edges alike.
        id_ptr, ids: edge e flips answer bits ``ids[id_ptr[e]:id_ptr[e+1]]``.
        num_ids: bits of the answer.
        nodes: ``(num_nodes,)`` True where events are to be explained; None: everywhere.
        max_events: residual events of a window, at most 4096, above which it is matched in full.
        max_settled: nodes in all its balls together, likewise.
        max_states: states of one cluster's dynamic programme, likewise.
        complete: whether what is beyond these bounds is matched in full, or left unfinished.

    Raises:
        GeometryError: the edges are no graph without parallels, or their ids no bits of the answer.
    """

    def __init__(
        self,
        num_nodes: int,
        u: Int64s,
        v: Int64s,
        id_ptr: Int64s,
        ids: Int64s,
        num_ids: int,
        *,
        nodes: Bits | None = None,
        max_events: int = 128,
        max_settled: int = 8192,
        max_states: int = 16384,
        complete: bool = True,
    ) -> None:
        """Check the edges, lay them out by node, and compile (from disk where that was done)."""
        _check_edges(num_nodes, u, v, id_ptr, ids, num_ids)
        if min(max_events, max_settled, max_states) < 1 or max_events > 4096:
            raise GeometryError("bounds on the work of a matcher are positive; max_events <= 4096")
        self._num_edges = len(u)
        self._syndrome_bytes, self._answer_bytes = num_bytes(num_nodes), num_bytes(num_ids)
        self._mask = None if nodes is None else pack(nodes)
        # The bits that fill the last byte are nodes without edges: events there are infeasible.
        slots = 8 * self._syndrome_bytes
        self._id_ptr, self._ids = id_ptr, ids
        self._graph = make_graph(slots, u, v, id_ptr, ids)
        self._scratch = make_scratch(slots, len(u), max_events, max_settled, max_states)
        self._rebuilt = RebuiltMatching(slots, u, v) if complete else None
        self.decode(
            np.zeros((1, len(u)), dtype=np.float32),
            np.zeros((1, self._syndrome_bytes), dtype=np.uint8),
        )

    @classmethod
    def from_problem(cls, problem: Problem) -> SparseMatcher:
        """The matcher of a window; its edges are those of ``merge_parallel(problem)``."""
        edges = merge_parallel(problem)
        id_ptr, ids = gather_rows(problem.id_ptr, problem.ids, edges.component)
        return cls(
            problem.num_nodes,
            edges.u,
            edges.v,
            id_ptr,
            ids,
            problem.num_ids,
            nodes=problem.nodes,
        )

    @property
    def num_edges(self) -> int:
        """E, the length of a window's log-odds."""
        return self._num_edges

    @property
    def graph(self) -> Graph:
        """Its edges."""
        return self._graph

    @property
    def answer_bytes(self) -> int:
        """Bytes of an answer."""
        return self._answer_bytes

    @property
    def ends(self) -> Int64s:
        """``(E, 2)`` nodes of each edge; the second is -1 for the boundary."""
        return self._graph.ends

    @property
    def flips(self) -> tuple[Int64s, Int64s]:
        """``id_ptr`` and ``ids``, as given."""
        return self._id_ptr, self._ids

    def decode(self, log_odds: NDArray[np.float32], syndromes: Bytes) -> SparseAnswers:
        """Find the most probable edges of each window, taken as independent.

        Args:
            log_odds: ``(B, E)`` float32: log(P / (1 - P)) of each edge; beyond ±64 (infinite, too)
                they count as that.
            syndromes: ``(B, ceil(num_nodes/8))`` uint8, LSB first.

        Raises:
            DataError: the arrays are not of these shapes and types.
        """
        return self._decode(log_odds, syndromes, np.zeros((len(log_odds), 0), dtype=np.uint8))

    def solve(
        self, log_odds: NDArray[np.float32], syndromes: Bytes
    ) -> tuple[SparseAnswers, NDArray[np.bool_]]:
        """`decode`, and ``(B, E)`` which edges were chosen: to check an answer with."""
        chosen = np.zeros((len(log_odds), self._num_edges), dtype=np.uint8)
        return self._decode(log_odds, syndromes, chosen), chosen.view(np.bool_)

    def _decode(
        self, log_odds: NDArray[np.float32], syndromes: Bytes, chosen: Bytes
    ) -> SparseAnswers:
        shots = len(syndromes)
        _check_shape("log-odds", log_odds, np.float32, (shots, self._num_edges))
        _check_shape("syndromes", syndromes, np.uint8, (shots, self._syndrome_bytes))
        log_odds = np.ascontiguousarray(log_odds)
        if self._mask is not None:
            syndromes = syndromes & self._mask
        out = SparseAnswers(
            np.zeros((shots, self._answer_bytes), dtype=np.uint8),
            np.zeros(shots),
            np.zeros(shots),
            np.zeros(shots, dtype=np.uint8),
        )
        unfinished = kernels.decode_shots(
            self._graph,
            self._scratch,
            log_odds,
            np.ascontiguousarray(syndromes),
            out.bits,
            out.weight,
            out.residual,
            out.route,
            chosen,
        )
        if unfinished:
            for b in np.flatnonzero(out.route == Route.FULL).tolist():
                self._match_fully(b, log_odds[b], syndromes[b], out, chosen)
        return out

    def _match_fully(
        self,
        b: int,
        log_odds: NDArray[np.float32],
        syndrome: Bytes,
        out: SparseAnswers,
        chosen: Bytes,
    ) -> None:
        weights = -np.clip(log_odds, -kernels.CLIP, kernels.CLIP).astype(np.float64)
        found = None if self._rebuilt is None else self._rebuilt.solve(weights, syndrome)
        if found is None:
            out.route[b] = Route.UNFINISHED if self._rebuilt is None else Route.INFEASIBLE
            out.weight[b] = out.residual[b] = np.inf
            out.bits[b] = chosen[b] = 0
            return
        _, flipped = gather_rows(self._id_ptr, self._ids, np.flatnonzero(found))
        out.bits[b] = pack(np.bincount(flipped, minlength=8 * self._answer_bytes) & 1 == 1)
        out.weight[b] = weights[found].sum()
        out.residual[b] = out.weight[b] - np.minimum(weights, 0).sum()
        if chosen.shape[1]:
            chosen[b] = found


def _check_edges(
    num_nodes: int, u: Int64s, v: Int64s, id_ptr: Int64s, ids: Int64s, num_ids: int
) -> None:
    if not 0 < num_nodes < _MOST or not 0 <= num_ids < _MOST or max(len(u), len(ids)) >= _MOST:
        raise GeometryError("a matcher needs at least one node, and counts below 2^24")
    if u.ndim != 1 or u.shape != v.shape or id_ptr.shape != (len(u) + 1,) or ids.ndim != 1:
        raise GeometryError("u, v and id_ptr must have E, E and E + 1 entries")
    if len(u) and (u.min() < 0 or v.min() < -1 or max(u.max(), v.max()) >= num_nodes):
        raise GeometryError(f"an edge's nodes must lie in 0..{num_nodes - 1}, or v be -1")
    if (u == v).any():
        raise GeometryError("an edge joins a node to itself")
    low, high = np.minimum(u, v), np.maximum(u, v)
    if len(np.unique(low * num_nodes + high)) < len(u):
        raise GeometryError("two edges join the same nodes: merge them first")
    if id_ptr[0] != 0 or id_ptr[-1] != len(ids) or (np.diff(id_ptr) < 0).any():
        raise GeometryError("id_ptr must rise from 0 to the number of ids")
    if len(ids) and (ids.min() < 0 or ids.max() >= num_ids):
        raise GeometryError(f"an id lies outside 0..{num_ids - 1}")


def _check_shape(
    what: str, array: NDArray[np.generic], dtype: type[np.generic], shape: tuple[int, int]
) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise DataError(f"{what} must be {shape} {dtype.__name__}, not {array.shape} {array.dtype}")
