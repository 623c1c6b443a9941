"""Sets of faults that lie along a shortest logical error, where lost distance shows first.

Of a shortest logical error's d edges, a decoder that is told (d - 1) / 2 has to choose between
these and the (d + 1) / 2 that are left: nothing is harder to tell apart. Sets of faults chosen at
random from all of a code's seldom lie so, and the more faults, the more seldom.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from qdec.bits import Bytes, pack
from qdec.codes import Code
from qdec.codes.rows import gather_rows
from qdec.errors import CodeError
from qdec.windows.cut import cut
from qdec.windows.geometry import Window

Ints = NDArray[np.int64]
# Sets drawn along one logical error before another is looked for.
_PER_ERROR = 64
# Lengths vary by less than one edge over a logical error of so many, so that the shortest stays so.
_LONGEST = 64
_ATTEMPTS = 1000  # to find what there may not be


class NearSets:
    """Draws sets of faults; a fault is one instruction of the DEM, with all its components."""

    def __init__(self, code: Code, weight: int, seed: int = 0) -> None:
        """Prepare to look for logical errors.

        Args:
            code: the code; its first observable that can be flipped is the one looked at.
            weight: faults per set.
            seed: of all choices.

        Raises:
            CodeError: no component flips an observable.
        """
        rounds = code.spacetime.rounds
        problem = cut(code.spacetime, Window(0, rounds, rounds, rounds))
        self._p, self._u, self._v = problem.p, problem.u, problem.v
        self._id_ptr, self._ids = problem.id_ptr, problem.ids
        self._starts = np.append(
            np.flatnonzero(np.diff(problem.group, prepend=-1)), len(problem.group)
        )
        layout = code.layout
        self._detector = dict(
            zip(
                (layout.round_of * 8 * layout.record_bytes + layout.bit_of).tolist(),
                range(layout.num_detectors),
                strict=True,
            )
        )
        self._weight = weight
        self._rng = np.random.default_rng(seed)
        self._rounds, self._nodes = rounds, problem.num_nodes
        self._frame_bits = 8 * problem.frame_bytes
        if not len(problem.ids):
            raise CodeError("no mechanism flips an observable: there are no logical errors")
        self._link(int(problem.ids.min()))

    def _link(self, observable: int) -> None:
        """The graph whose ways from a node to its twin are logical errors.

        Every node stands twice in it: an edge that flips the observable leads to the other sheet.
        """
        boundary = self._nodes
        v = np.where(self._v < 0, boundary, self._v)
        flips = np.zeros(len(v), dtype=np.int64)
        flips[np.repeat(np.arange(len(v)), np.diff(self._id_ptr))[self._ids == observable]] = 1
        low, high = np.minimum(self._u, v), np.maximum(self._u, v)
        sheet = self._sheet = boundary + 1
        key = (low * sheet + high) * 2 + flips
        self._key, edge = np.unique(key, return_inverse=True)
        order = np.argsort(edge.reshape(-1), kind="stable")
        item = np.repeat(np.arange(len(self._starts) - 1), np.diff(self._starts))
        self._items = item[order]
        self._item_ptr = np.concatenate([[0], np.cumsum(np.bincount(edge.reshape(-1)))])
        low, high, flips = self._key // 2 // sheet, self._key // 2 % sheet, self._key % 2
        ends = [(low + s * sheet, high + (s ^ flips) * sheet) for s in (0, 1)]
        row = np.concatenate([a for a, b in ends] + [b for a, b in ends])
        column = np.concatenate([b for a, b in ends] + [a for a, b in ends])
        number = np.tile(np.arange(1, len(low) + 1, dtype=np.float64), 4)
        self._graph = csr_array((number, (row, column)), shape=(2 * sheet, 2 * sheet))
        self._edge_at = self._graph.data.astype(np.int64) - 1
        self._sources = [boundary] if (self._v < 0).any() else np.unique(self._u).tolist()

    def logical_error(self) -> Ints:
        """A shortest logical error through the boundary, or through some node: its edges' numbers.

        Raises:
            CodeError: there is none.
        """
        for _ in range(_ATTEMPTS):
            lengths = 1 + self._rng.random(len(self._key)) / _LONGEST
            self._graph.data = lengths[self._edge_at]
            source = int(self._rng.choice(self._sources))
            _, before = dijkstra(self._graph, indices=source, return_predecessors=True)
            at, way = source + self._sheet, []
            while at != source and before[at] >= 0:
                way.append((int(before[at]), at))
                at = before[at]
            if at == source:
                a, b = np.array(way).T
                flips = (a >= self._sheet) != (b >= self._sheet)
                a, b = a % self._sheet, b % self._sheet
                key = (np.minimum(a, b) * self._sheet + np.maximum(a, b)) * 2 + flips
                return np.asarray(np.searchsorted(self._key, key), dtype=np.int64)
        raise CodeError("no logical error was found")

    def draw(self, count: int) -> Ints:
        """``(count, weight)`` numbers of instructions, distinct within a row.

        Raises:
            CodeError: a logical error has fewer edges than a set has faults.
        """
        out = np.zeros((0, self._weight), dtype=np.int64)
        for _ in range(_ATTEMPTS * (count // _PER_ERROR + 1)):
            edges = self.logical_error()
            if len(edges) < self._weight:
                raise CodeError(
                    f"a logical error of {len(edges)} edges has no {self._weight} faults to choose"
                )
            ranks = self._rng.random((_PER_ERROR, len(edges))).argsort(axis=1)
            chosen = edges[ranks[:, : self._weight]]
            first, end = self._item_ptr[chosen], self._item_ptr[chosen + 1]
            items = self._items[self._rng.integers(first, end)]
            ordered = np.sort(items, axis=1)
            distinct = (np.diff(ordered, axis=1) != 0).all(axis=1)
            out = np.concatenate([out, items[distinct]])
            if len(out) >= count:
                return out[:count]
        raise CodeError(f"{self._weight} distinct faults along one logical error were not found")

    def shots(self, items: Ints) -> tuple[Bytes, Bytes]:
        """Records ``(n, rounds, record_bytes)`` and frames ``(n, frame_bytes)`` of these sets."""
        count, weight = items.shape
        ptr, parts = gather_rows(
            self._starts, np.arange(self._starts[-1], dtype=np.int64), items.reshape(-1)
        )
        owner = np.repeat(np.arange(len(items) * weight) // weight, np.diff(ptr))
        events = np.zeros((count, self._nodes), dtype=np.uint8)
        np.bitwise_xor.at(events, (owner, self._u[parts]), 1)
        pair = self._v[parts] >= 0
        np.bitwise_xor.at(events, (owner[pair], self._v[parts][pair]), 1)
        id_ptr, ids = gather_rows(self._id_ptr, self._ids, parts)
        frames = np.zeros((count, self._frame_bits), dtype=np.uint8)
        np.bitwise_xor.at(frames, (np.repeat(owner, np.diff(id_ptr)), ids), 1)
        return pack(events).reshape(count, self._rounds, -1), pack(frames)

    def text(self, item: int) -> str:
        """An instruction as the DEM has it."""
        parts = range(self._starts[item], self._starts[item + 1])
        flips = [
            " ".join(
                [f"D{self._detector[node]}" for node in (self._u[k], self._v[k]) if node >= 0]
                + [f"L{i}" for i in self._ids[self._id_ptr[k] : self._id_ptr[k + 1]]]
            )
            for k in parts
        ]
        return f"error({self._p[parts[0]]:.6g}) " + " ^ ".join(flips)
