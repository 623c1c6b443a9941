"""What `components` knows of a window: its edges, what they flip, which lie between two sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.cuda.tables import MAX_BYTES, MAX_ELEMENTS, Int32s
from qdec.errors import GeometryError

BOUNDARY = -1
# What an edge is in the closed window: nothing; there; there, an end on the side that flips the
# observable.
CUT, INSIDE, SIDE = range(3)


@dataclass(frozen=True, eq=False)
class ComponentTable:
    """Log-odds → answer.

    Attributes:
        window_bytes: of a packed window.
        answer_bytes: of an answer.
        ends: ``(E, 2)`` int32 nodes of each edge, bits of the window; the second may be `BOUNDARY`.
            No two edges join the same nodes.
        id_ptr, ids: int32: edge e flips answer bits ``ids[id_ptr[e]:id_ptr[e+1]]``.
        sides: ``(E,)`` uint8: `CUT`, `INSIDE` or `SIDE`. The observable's class is the parity of
            the `SIDE` edges among the ones that are not `CUT`.
        apart: nats by which another class has to weigh more for an answer to stand; 0: none.

    Raises:
        GeometryError: an index is no node's or bit's, edges are no graph, or the window is too
            large.
    """

    window_bytes: int
    answer_bytes: int
    ends: Int32s
    id_ptr: Int32s
    ids: Int32s
    sides: NDArray[np.uint8]
    apart: float = 0.0

    def __post_init__(self) -> None:
        """Check what kernels will not."""
        edges, nodes = len(self.ends), 8 * self.window_bytes
        if not 0 < self.window_bytes <= MAX_BYTES or not 0 < self.answer_bytes <= MAX_BYTES:
            raise GeometryError(f"windows and answers have 1 to {MAX_BYTES} bytes")
        if self.ends.ndim != 2 or self.ends.shape[1] != 2 or not 0 < edges <= MAX_ELEMENTS:
            raise GeometryError(f"a window has 1 to {MAX_ELEMENTS} edges, of two ends each")
        for name in ("ends", "id_ptr", "ids"):
            if getattr(self, name).dtype != np.int32:
                raise GeometryError(f"tables are int32, which {name} is not")
        u, v = self.ends.T.astype(np.int64)
        if min(u.min(), v.min() + 1) < 0 or max(u.max(), v.max()) >= nodes or (u == v).any():
            raise GeometryError("an edge joins two nodes of the window, or one and the boundary")
        key = np.minimum(u, v) * nodes + np.maximum(u, v)
        if len(np.unique(key)) < edges:
            raise GeometryError("two edges join the same nodes: merge them first")
        rises = self.id_ptr.shape == (edges + 1,) and not (np.diff(self.id_ptr) < 0).any()
        if not rises or self.id_ptr[0] != 0 or self.id_ptr[-1] != len(self.ids):
            raise GeometryError("id_ptr must rise from 0 to the number of ids")
        if len(self.ids) and (self.ids.min() < 0 or self.ids.max() >= 8 * self.answer_bytes):
            raise GeometryError(f"an id lies outside 0 to {8 * self.answer_bytes - 1}")
        if self.sides.shape != (edges,) or self.sides.dtype != np.uint8 or self.sides.max() > SIDE:
            raise GeometryError("every edge is cut off, inside, or ends on the side: 0, 1 or 2")
        if (v[self.sides == SIDE] >= 0).any():
            raise GeometryError("an edge that ends on the side has one node")
        if not 0 <= self.apart < np.inf:
            raise GeometryError(f"answers cannot be {self.apart} nats apart")

    @property
    def edges(self) -> int:
        """E."""
        return len(self.ends)

    @property
    def nodes(self) -> int:
        """Bits of a window, those that fill its last byte included."""
        return 8 * self.window_bytes

    @property
    def measured(self) -> NDArray[np.bool_]:
        """``(nodes,)``: those that the closed window's edges touch."""
        ends = self.ends[self.sides != CUT]
        found = np.zeros(self.nodes + 1, dtype=np.bool_)  # the last one: the boundary
        found[ends] = True
        return found[:-1]

    @property
    def whole(self) -> bool:
        """Whether no edge at a measured node is cut off: the window is closed as it is."""
        cut = self.ends[self.sides == CUT]
        return not np.append(self.measured, False)[cut].any()

    @property
    def links(self) -> tuple[Int32s, Int32s]:
        """``(nodes + 1,)`` ptr and ``(n, 2)`` links by node: an edge, and the node at its end."""
        pair = np.flatnonzero(self.ends[:, 1] >= 0)
        node = np.concatenate([self.ends[:, 0], self.ends[pair, 1]])
        edge = np.concatenate([np.arange(self.edges), pair])
        other = np.concatenate([self.ends[:, 1], self.ends[pair, 0]])
        order = np.argsort(node, kind="stable")
        ptr = np.searchsorted(node[order], np.arange(self.nodes + 1))
        return ptr.astype(np.int32), np.stack([edge, other], axis=1)[order].astype(np.int32)
