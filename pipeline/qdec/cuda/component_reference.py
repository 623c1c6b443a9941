"""What `components` computes, in NumPy: the same steps and precision, one window at a time.

`qdec.match.sparse` has the method and its proof; kernels/components.cu says what of it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes, pack, unpack
from qdec.cuda.component_plan import BALL, EVENTS, MEMBERS, RADIUS, ROUNDS, STEP
from qdec.cuda.component_table import BOUNDARY, CUT, SIDE, ComponentTable
from qdec.cuda.record import ComponentRecord, OddsRecord

Floats = NDArray[np.float32]
CLIP = np.float32(64)
ROUNDING = np.float32(1e-3)
_ZERO, _INF = np.float32(0), np.float32(np.inf)
_OUTSIDE = -2


def components(table: ComponentTable, windows: Bytes, judged: Bytes) -> Bytes:
    """``(B, window_bytes)`` and ``(B, size)`` records of `edges` → records (`ComponentRecord`)."""
    heads, odds = OddsRecord(table.edges).read(judged)
    record = ComponentRecord(table.edges, table.answer_bytes)
    records = np.zeros((len(windows), record.size), dtype=np.uint8)
    head, found, answers, rest = record.read(records)
    head[:] = heads
    for b in np.flatnonzero(heads["sick"] == 0).tolist():
        row = odds[b].astype(np.float32)
        one = _Matching(table, row, closed=False)
        settled = one.match(unpack(windows[b], table.nodes))
        if settled and table.apart and table.whole:
            settled = _sure(table, one)
        elif settled and table.apart:
            other = _Matching(table, row, closed=True)
            settled = other.match(unpack(windows[b], table.nodes) & table.measured)
            settled = settled and _sure(table, other)
        found[b] = settled, one.events, one.residual, one.rounds
        if settled:
            taken = np.flatnonzero((row > 0) ^ one.flipped)
            bits = [table.ids[table.id_ptr[e] : table.id_ptr[e + 1]] for e in taken]
            flips = np.bincount(np.concatenate([*bits, []]).astype(int), minlength=8)
            parity = np.zeros(8 * table.answer_bytes, dtype=np.bool_)
            parity[: len(flips)] = flips % 2 == 1
            answers[b] = pack(parity)
        else:
            rest[b] = row
    return records


@dataclass(eq=False)
class _Ball:
    """Nodes around an event, by slot: how far, over which edge, from which slot."""

    nodes: list[int]
    far: list[np.float32]
    by: list[tuple[int, int]]
    settled: list[bool]
    reach: np.float32 = _INF
    exit: np.float32 = _INF
    exit_by: tuple[int, int] = (0, 0)

    @property
    def alone(self) -> np.float32:
        """What it costs at least to match the event with none to which a way is known."""
        return min(self.exit, self.reach)


@dataclass(eq=False)
class _Matching:
    """The least weight of what the likely edges leave: in the window, or the closed one."""

    table: ComponentTable
    odds: Floats
    closed: bool
    events: int = 0
    rounds: int = 0
    residual: np.float32 = _ZERO
    balls: list[_Ball] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weight = np.minimum(np.abs(self.odds), CLIP)
        self.usable = (self.table.sides != CUT) | (not self.closed)
        self.flipped = np.zeros(self.table.edges, dtype=np.bool_)
        self.ptr, links = self.table.links
        self.links = [(int(e), int(to)) for e, to in links]

    def match(self, syndrome: NDArray[np.uint8]) -> bool:
        """Whether it could be matched."""
        if np.isnan(self.odds[self.usable]).any():
            return False
        left = np.append(syndrome, 0)
        np.bitwise_xor.at(left, self.table.ends[(self.odds > 0) & self.usable].reshape(-1), 1)
        events = np.flatnonzero(left[:-1]).tolist()
        self.events = len(events)
        if self.events > EVENTS:
            return False
        self.balls = [_Ball([], [], [], []) for _ in events]
        mates: dict[int, int] = {}
        grow = set(range(self.events))
        while grow:
            if self.rounds == ROUNDS:
                return False
            radius = RADIUS + STEP * self.rounds
            for i in sorted(grow):
                self.balls[i] = self._ball(events[i], radius)
            self.rounds += 1
            self._find_ways()
            groups = self._label()
            if any(len(group) > MEMBERS for group in groups):
                return False
            grow = set()
            for group in groups:
                mine = self._match_component(group)
                mates |= mine
                if _OUTSIDE in mine.values():
                    grow |= {
                        i
                        for i in group
                        if mine[i] == _OUTSIDE or self.balls[i].reach < self.balls[i].exit
                    }
        self._flip(mates)
        return True

    def _around(self, node: int) -> list[tuple[int, int]]:
        links = self.links[self.ptr[node] : self.ptr[node + 1]]
        return [(edge, to) for edge, to in links if self.usable[edge]]

    def _ball(self, centre: int, radius: float) -> _Ball:
        """Dijkstra, with room for few nodes: what is left out bounds the ball's reach."""
        ball = _Ball([centre], [np.float32(0)], [(0, 0)], [False])
        while True:
            open_ = [(far, k) for k, far in enumerate(ball.far) if not ball.settled[k]]
            if not open_ or min(open_)[0] >= ball.reach:
                break
            near, first = min(open_)
            ball.settled[first] = True
            for edge, other in self._around(ball.nodes[first]):
                to = near + self.weight[edge]
                if other == BOUNDARY:
                    if to < ball.exit:
                        ball.exit, ball.exit_by = to, (edge, first)
                elif other in ball.nodes:
                    k = ball.nodes.index(other)
                    if not ball.settled[k] and to < ball.far[k]:
                        ball.far[k], ball.by[k] = to, (edge, first)
                elif to > np.float32(radius) or len(ball.nodes) == BALL:
                    ball.reach = min(ball.reach, to)
                else:
                    ball.nodes.append(other)
                    ball.far.append(to)
                    ball.by.append((edge, first))
                    ball.settled.append(False)
        return ball

    def _find_ways(self) -> None:
        """The shortest over an edge between two balls; of equal ones, that of the first slots."""
        at: dict[int, list[tuple[int, int]]] = {}
        for i, ball in enumerate(self.balls):
            for k, node in enumerate(ball.nodes):
                if ball.settled[k]:
                    at.setdefault(node, []).append((i, k))
        self.ways: dict[tuple[int, int], tuple[np.float32, int, int, int]] = {}
        for node, here in at.items():
            for edge, other in self._around(node):
                for i, k in here:
                    for j, m in at.get(other, ()):
                        if j < i:
                            far, there = self.balls[i].far[k], self.balls[j].far[m]
                            way = (far + self.weight[edge] + there, k, m, edge)
                            self.ways[i, j] = min(self.ways.get((i, j), way), way)

    def _way(self, i: int, j: int) -> np.float32:
        return self.ways.get((max(i, j), min(i, j)), (_INF,))[0]

    def _joined(self, i: int, j: int) -> bool:
        way = self._way(i, j)
        return bool(way < _INF and way <= self.balls[i].alone + self.balls[j].alone)

    def _label(self) -> list[list[int]]:
        """Components: lists of events, rising."""
        left, groups = set(range(self.events)), []
        while left:
            group, new = set(), {min(left)}
            while new:
                group |= new
                new = {j for j in left - group if any(self._joined(i, j) for i in new)}
            left -= group
            groups.append(sorted(group))
        return groups

    def _match_component(self, group: list[int]) -> dict[int, int]:
        """With whom each event is matched: an event, `BOUNDARY` or outside its ball."""
        size = len(group)
        if size == 2:  # they would be no component were they dearer
            return {group[0]: group[1], group[1]: group[0]}
        cost = [np.float32(0)] * (1 << size)
        choice = [0] * (1 << size)
        for some in range(1, 1 << size):
            n = (some & -some).bit_length() - 1
            rest = some & (some - 1)
            cost[some], choice[some] = self.balls[group[n]].alone + cost[rest], n
            for k in range(n + 1, size):
                if rest >> k & 1 and self._joined(group[n], group[k]):
                    both = self._way(group[n], group[k]) + cost[rest & ~(1 << k)]
                    if both < cost[some]:
                        cost[some], choice[some] = both, k
        mates, left = {}, (1 << size) - 1
        while left:
            n = (left & -left).bit_length() - 1
            k = choice[left]
            i, j = group[n], group[k]
            if k == n:
                ball = self.balls[i]
                mates[i] = BOUNDARY if ball.exit <= ball.reach and ball.exit < _INF else _OUTSIDE
            else:
                mates[i], mates[j] = j, i
            left &= ~(1 << n) & ~(1 << k)
        return mates

    def _flip(self, mates: dict[int, int]) -> None:
        for i in range(self.events):
            j = mates[i]
            if j == BOUNDARY:
                edge, slot = self.balls[i].exit_by
                self.residual += self.balls[i].exit
                self._flip_back(i, slot)
            elif j > i:
                length, there, here, edge = self.ways[j, i]
                self.residual += length
                self._flip_back(i, here)
                self._flip_back(j, there)
            else:
                continue
            self.flipped[edge] ^= True

    def _flip_back(self, i: int, slot: int) -> None:
        while slot:
            edge, slot = self.balls[i].by[slot]
            self.flipped[edge] ^= True


def _sure(table: ComponentTable, found: _Matching) -> bool:
    """Whether no way between the sides is as short as what was matched, and `apart`."""
    inside = table.sides != CUT
    matched = found.weight[found.flipped & inside].sum(dtype=np.float64)
    limit = matched + table.apart + ROUNDING
    fare = np.where(found.flipped, 0, found.weight).astype(np.float64)
    near = np.full(table.nodes, np.inf)
    side = table.sides == SIDE
    np.minimum.at(near, table.ends[side, 0], fare[side])
    u, v = table.ends[inside & (table.ends[:, 1] >= 0)].T
    length = fare[inside & (table.ends[:, 1] >= 0)]
    while True:
        before = near.copy()
        np.minimum.at(near, v, before[u] + length)
        np.minimum.at(near, u, before[v] + length)
        if (near == before).all():
            break
    out = inside & ~side & (table.ends[:, 1] == BOUNDARY)
    return not (near[table.ends[out, 0]] + fare[out] < limit).any()
