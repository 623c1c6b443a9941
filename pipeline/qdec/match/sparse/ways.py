"""Whether two sides of a code are far apart under a window's own weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from qdec.match.compiled import compiled
from qdec.match.sparse.kernels import CLIP
from qdec.match.sparse.state import Bytes, Floats, Graph, Int64s

if TYPE_CHECKING:
    from qdec.match.sparse.matcher import SparseMatcher


_F = TypeVar("_F", bound=Callable[..., object])


def _kernel(function: _F) -> _F:
    return compiled(function, nogil=True)


class Ways:
    """Ways from a node to the boundary. Not for two threads at once."""

    def __init__(self, matcher: SparseMatcher, node: int) -> None:
        """Of a matcher's edges, from a node; compile (from disk where that was done)."""
        self._graph, self._node = matcher.graph, node
        self._near = np.full(len(matcher.graph.ptr) - 1, np.inf)
        # Each end of each edge enters at most once, and the node itself.
        self._keys = np.zeros(2 * matcher.num_edges + 1)
        self._heap = np.zeros(2 * matcher.num_edges + 1, dtype=np.int64)
        nothing = np.zeros((0, matcher.num_edges))
        self.none_shorter(nothing.astype(np.float32), nothing.astype(np.bool_), np.zeros(0))

    def none_shorter(
        self, log_odds: NDArray[np.float32], chosen: NDArray[np.bool_], than: Floats
    ) -> NDArray[np.bool_]:
        """``(B,)``: whether every way is as long as `than`, edges that were matched being free.

        Args:
            log_odds: ``(B, E)`` float32: an edge is as long as these are large.
            chosen: ``(B, E)``: edges of an answer; those were matched that are in it and unlikely,
                or likely and not in it.
            than: ``(B,)`` float64; where it is not finite, that cannot be said.
        """
        out = np.zeros(len(log_odds), dtype=np.bool_)
        memory = self._near, self._keys, self._heap
        marks = chosen.view(np.uint8)
        _none_shorter(self._graph, self._node, log_odds, marks, than, *memory, out)
        return out


@_kernel
def _none_shorter(
    graph: Graph,
    start: int,
    log_odds: NDArray[np.float32],
    chosen: Bytes,
    than: Floats,
    near: Floats,
    keys: Floats,
    heap: Int64s,
    out: NDArray[np.bool_],
) -> None:
    """Dijkstra from `start`, no further than `than`."""
    for b in range(len(log_odds)):
        limit = than[b]
        if not limit < np.inf:
            continue
        near[:] = np.inf
        near[start] = 0.0
        keys[0], heap[0] = 0.0, start
        size, short = 1, False
        while size and not short:
            key, node = keys[0], heap[0]
            size -= 1
            last, at = keys[size], 0
            while True:
                down = 2 * at + 1
                if down >= size:
                    break
                if down + 1 < size and keys[down + 1] < keys[down]:
                    down += 1
                if keys[down] >= last:
                    break
                keys[at], heap[at] = keys[down], heap[down]
                at = down
            keys[at], heap[at] = last, heap[size]
            if key > near[node]:
                continue
            for k in range(graph.ptr[node], graph.ptr[node + 1]):
                edge, other = graph.links[k, 0], graph.links[k, 1]
                odds = log_odds[b, edge]
                far = key
                if (odds > 0) == (chosen[b, edge] != 0):
                    far += min(abs(odds), CLIP)
                if far >= limit:
                    continue
                if other < 0:
                    short = True
                    break
                if far < near[other]:
                    near[other] = far
                    at = size
                    while at > 0 and keys[(at - 1) >> 1] > far:
                        keys[at], heap[at] = keys[(at - 1) >> 1], heap[(at - 1) >> 1]
                        at = (at - 1) >> 1
                    keys[at], heap[at] = far, other
                    size += 1
        out[b] = not short
