"""Where a code's detectors and edges lie on a regular grid: what a convolution needs to know.

The detectors of a planar code stand, round by round, on a lattice of plaquettes (for the rotated
surface code (d+1)^2 of them, X and Z like the squares of a chessboard). Two by two plaquettes are
*folded* into one cell with four channels, so that nothing is computed for squares that are empty by
construction, and a 3x3 kernel sees 6x6 plaquettes.

The edges of the matching graph fall into few *classes*: which square (its parity) the earlier
detector stands on, and how far away the other is in time and space, or that the edge goes to the
boundary. A network has one output channel per class and folded square, at the cell of the edge's
earlier detector, so an edge that the window's end cuts off has its place like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from qdec.codes import Code
from qdec.codes.mechanisms import combine_probabilities
from qdec.errors import CodeError, GeometryError
from qdec.windows.cut import Edges, Problem
from qdec.windows.geometry import Window

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Plaquettes folded into a cell: (i % 2, j % 2), in this order.
SQUARES = ((0, 0), (0, 1), (1, 0), (1, 1))
BOUNDARY = (0, 0, 0)  # the offset that stands for the boundary
Offset = tuple[int, int, int]
# A network's grid may have so many cells at most (d = 63 with 126 rounds).
MAX_CELLS = 1 << 17
# Neighbours of a point among which the lattice's two shortest steps are looked for.
_NEAR = 9


@dataclass(frozen=True, slots=True)
class EdgeClasses:
    """The classes that a network knows.

    Attributes:
        by_parity: for plaquettes with even and with odd i + j, the offsets (rounds, i, j) from an
            edge's earlier detector to the other; `BOUNDARY` for edges to the boundary.
    """

    by_parity: tuple[tuple[Offset, ...], tuple[Offset, ...]]

    @property
    def channels(self) -> int:
        """Output channels: one per folded square and class of its parity."""
        return 2 * (len(self.by_parity[0]) + len(self.by_parity[1]))

    def channel_of(self) -> dict[tuple[int, Offset], int]:
        """(folded square, offset) → output channel."""
        order = [
            (square, offset)
            for square, (i, j) in enumerate(SQUARES)
            for offset in self.by_parity[(i + j) % 2]
        ]
        return {key: channel for channel, key in enumerate(order)}


# Stim's rotated surface codes, both memory bases, any noise in their circuits.
ROTATED = EdgeClasses(
    (
        (BOUNDARY, (0, 1, -1), (0, 1, 1), (1, -1, -1), (1, -1, 1), (1, -2, 0), (1, 0, 0)),
        (BOUNDARY, (0, 1, -1), (0, 1, 1), (1, -1, -1), (1, 0, -2), (1, 0, 0), (1, 1, -1)),
    )
)


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """A window's nodes and edges on the folded grid of a network.

    Attributes:
        shape: (T, H, W): rounds and folded cells.
        node_at: ``(num_nodes,)`` index of each node in a flattened ``(4, T, H, W)``; -1 for bits
            that are no detectors.
        place: ``(K,)`` index of each component's edge in a flattened ``(channels, T, H, W)``.
        places: distinct values of `place`, ascending.
        prior: ``(len(places),)`` log-odds that an odd number of the mechanisms there fired.
        edge_ptr, edge_places: edge e of the window is all of
            ``edge_places[edge_ptr[e]:edge_ptr[e+1]]`` (indices into `places`): several where the
            window's end cuts edges off that then go to the same boundary.
    """

    shape: tuple[int, int, int]
    node_at: Ints
    place: Ints
    places: Ints
    prior: Floats
    edge_ptr: Ints
    edge_places: Ints


class Lattice:
    """The plaquette of each detector of a code, the way round that a network's classes need it."""

    def __init__(self, code: Code, classes: EdgeClasses) -> None:
        """Find the plaquettes.

        Raises:
            CodeError: detectors have no two coordinates, do not lie on a lattice, or the code has
                edges that the network does not know, whichever way it is turned.
        """
        self.classes = classes
        self._space = code.spacetime
        points = _points(code)
        plain = _on_integers(points)
        layout = code.layout
        rounds = [layout.round_of, layout.bit_of]
        self._edges = _template_edges(code)
        unknown: set[Offset] = set()
        for turned in _ways_round(plain):
            self.height, self.width = (int(n) for n in turned.max(axis=0) + 1)
            table = np.full((layout.num_rounds, 8 * layout.record_bytes, 2), -1, dtype=np.int64)
            table[tuple(rounds)] = turned
            self._table = table
            missing = self._unknown_offsets()
            if not missing:
                break
            unknown = unknown or missing
        else:
            some = ", ".join(map(str, sorted(unknown)[:4]))
            raise CodeError(
                f"the network knows no edges of a kind that this code has, such as (rounds, i, j) "
                f"= {some}: it was made for other codes or circuits"
            )

    @property
    def cells(self) -> tuple[int, int]:
        """Folded cells: (H, W)."""
        return (self.height + 1) // 2, (self.width + 1) // 2

    def grid(self, window: Window, problem: Problem, edges: Edges) -> WindowGrid:
        """Lay a window's problem out on the grid.

        Args:
            window: the window.
            problem: cut out of the code for it.
            edges: its merged edges.

        Raises:
            GeometryError: the grid would be too large, or an edge (an erasure's) has no class.
        """
        rounds = window.end - window.start
        height, width = self.cells
        shape = rounds, height, width
        if rounds * height * width > MAX_CELLS:
            raise GeometryError(f"a grid of {shape} cells is too large for a network")
        at = self._positions(window)
        row = 8 * self._space.layout.record_bytes
        t = np.arange(len(at)) // row
        square, cell = _folded(at)
        inside = (at[:, 0] >= 0) & (np.arange(len(at)) < problem.num_nodes)
        flat = ((square * rounds + t) * height + cell[:, 0]) * width + cell[:, 1]
        node_at = np.where(inside, flat, -1)[: problem.num_nodes]

        anchor, offset = self._offsets(problem.u, problem.far, at, t)
        channel = self._channels(square[anchor], offset)
        if (channel < 0).any():
            odd = offset[np.argmin(channel)]
            raise GeometryError(f"an edge of the window (rounds, i, j) = {odd} has no class")
        place = ((channel * rounds + t[anchor]) * height + cell[anchor, 0]) * width
        place = place + cell[anchor, 1]
        places, which = np.unique(place, return_inverse=True)
        p = combine_probabilities(problem.p, which.reshape(-1), len(places))
        edge_ptr, edge_places = _edge_places(problem, edges, which.reshape(-1))
        return WindowGrid(shape, node_at, place, places, _log_odds(p), edge_ptr, edge_places)

    def _positions(self, window: Window) -> Ints:
        """``(bits, 2)``: the plaquette of every bit of the window's rounds and `span` more."""
        space = self._space
        last = window.end + space.span
        if window.length is not None:
            last = min(last, window.length)
        rounds = [
            space.class_rounds[space.class_of(r, window.length)] for r in range(window.start, last)
        ]
        return np.asarray(self._table[rounds].reshape(-1, 2))

    @staticmethod
    def _offsets(u: Ints, far: Ints, at: Ints, t: Ints) -> tuple[Ints, Ints]:
        """Each edge's earlier node, and the offset (rounds, i, j) of the other: ``(K, 3)``."""
        pair = far >= 0
        other = np.where(pair, far, u)
        where = np.column_stack([t, at])
        a, b = where[u], where[other]
        before = (a[:, 0] > b[:, 0]) | (
            (a[:, 0] == b[:, 0])
            & ((a[:, 1] > b[:, 1]) | ((a[:, 1] == b[:, 1]) & (a[:, 2] > b[:, 2])))
        )
        anchor = np.where(before, other, u)
        offset = np.where(before[:, None], a - b, b - a)
        return anchor, offset

    def _channels(self, square: Ints, offset: Ints) -> Ints:
        """Output channel of edges; -1 where the network has none."""
        channel = np.full(len(square), -1, dtype=np.int64)
        for (one, o), number in self.classes.channel_of().items():
            channel[(square == one) & (offset == np.array(o)).all(axis=1)] = number
        return channel

    def _unknown_offsets(self) -> set[Offset]:
        u_round, u, far_round, far = self._edges
        at = self._table.reshape(-1, 2)
        t = np.arange(len(at)) // self._table.shape[1]
        nodes = u_round * self._table.shape[1] + u
        others = np.where(far_round >= 0, far_round * self._table.shape[1] + far, -1)
        anchor, offset = self._offsets(nodes, others, at, t)
        channel = self._channels(_folded(at)[0][anchor], offset)
        return {(int(a), int(b), int(c)) for a, b, c in offset[channel < 0]}


def _points(code: Code) -> Floats:
    """``(num_detectors, 2)`` first two coordinates."""
    coordinates = code.dem.get_detector_coordinates()
    points = np.zeros((code.layout.num_detectors, 2))
    for detector in range(len(points)):
        where = coordinates.get(detector, [])
        if len(where) < 3:
            raise CodeError(
                f"detector D{detector} has no coordinates (x, y, t): networks need them"
            )
        points[detector] = where[:2]
    return points


def _on_integers(points: Floats) -> Ints:
    """Points in units of the two shortest steps between them, from (0, 0) on."""
    unique = np.unique(points, axis=0)
    _, near = cKDTree(unique).query(unique, k=min(_NEAR, len(unique)))
    steps = (unique[near.reshape(len(unique), -1)] - unique[:, None]).reshape(-1, 2)
    steps = steps[(steps[:, 0] > 0) | ((steps[:, 0] == 0) & (steps[:, 1] > 0))]
    if len(steps) == 0:
        return np.zeros(points.shape, dtype=np.int64)
    steps = steps[np.argsort((steps**2).sum(axis=1), kind="stable")]
    first = steps[0]
    across = np.abs(steps[:, 0] * first[1] - steps[:, 1] * first[0]) > 1e-9
    second = steps[np.argmax(across)] if across.any() else np.array([-first[1], first[0]])
    # The more horizontal of the two counts i, as in coordinates (x, y).
    basis = np.array(sorted([first, second], key=lambda step: -abs(step[0])))
    exact = (points - unique[0]) @ np.linalg.inv(basis)
    found = np.round(exact).astype(np.int64)
    if np.abs(exact - found).max() > 1e-6:
        raise CodeError("the detectors do not lie on a lattice, as networks need them to")
    return np.asarray(found - found.min(axis=0))


def _ways_round(at: Ints) -> list[Ints]:
    """The lattice as it is, mirrored and turned; then the same, moved by a plaquette."""
    turned = []
    for swap, flip_i, flip_j in product((False, True), repeat=3):
        way = at[:, ::-1].copy() if swap else at.copy()
        for axis, flip in enumerate((flip_i, flip_j)):
            if flip:
                way[:, axis] = way[:, axis].max() - way[:, axis]
        turned.append(way)
    shifts = ((0, 0), (0, 1), (1, 0), (1, 1))
    return [way + np.array(shift) for shift in shifts for way in turned]


def _folded(at: Ints) -> tuple[Ints, Ints]:
    """Plaquettes ``(n, 2)`` → folded square ``(n,)`` and cell ``(n, 2)``."""
    return (at[:, 0] % 2) * 2 + at[:, 1] % 2, at // 2


def _template_edges(code: Code) -> tuple[Ints, Ints, Ints, Ints]:
    c = code.spacetime.components(0, code.spacetime.rounds, code.spacetime.rounds)
    rows = np.unique(np.column_stack([c.u_round, c.u_bit, c.v_round, c.v_bit]), axis=0)
    return rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]


def _edge_places(problem: Problem, edges: Edges, place: Ints) -> tuple[Ints, Ints]:
    """For each merged edge the distinct places of its mechanisms."""
    high = problem.num_nodes + 1

    def key(u: Ints, v: Ints) -> Ints:
        pair = v >= 0
        low = np.where(pair, np.minimum(u, v), -1)
        return (low + 1) * high + np.where(pair, np.maximum(u, v), u)

    of_edge = key(edges.u, edges.v)
    order = np.argsort(of_edge)
    owner = order[np.searchsorted(of_edge[order], key(problem.u, problem.v))]
    pairs = np.unique(np.column_stack([owner, place]), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=len(edges.u))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), pairs[:, 1]


def _log_odds(p: Floats) -> Floats:
    """log(p / (1 - p)), with p kept away from 0 and 1."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(p) - np.log1p(-p))
