"""`JointDecoder`: the turns between the bases, many windows, classes and starts at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bits, Bytes, pack
from qdec.codes.mechanisms import mix
from qdec.match.gap import boundary_classes, flips_of
from qdec.match.guarded.tables import Ints, Tables, edge_keys, tabulate
from qdec.match.joint import kernels
from qdec.match.sparse import SparseMatcher
from qdec.windows.cut import Edges, Problem

Floats = NDArray[np.float64]
# Turns after which a descent is given up; nearly all have ended by then.
_TURNS = 3
# Of one cluster, some 3 ms of work; what takes more is not found.
_STATES = 16384
# An edge that is not of the basis at hand is never used.
_NEVER = np.float32(-np.inf)


@dataclass(frozen=True, slots=True)
class JointAnswers:
    """What was found for B windows.

    Attributes:
        bits: ``(B, answer_bytes)`` uint8.
        gap: ``(B,)`` float64, nats: by how much the class that lost weighs more; inf where it has
            no explanation.
        weight: ``(B,)`` float64 of the answer's faults; inf where nothing explains the window, or
            nothing was found within the bounds on work: its bits mean nothing then.
    """

    bits: Bytes
    gap: Floats
    weight: Floats


class JointDecoder:
    """Decodes windows of one kind. Not for two threads at once."""

    def __init__(self, tables: Tables, crosses: Bits, observed: Bits, order: Ints, nodes: int):
        """See `of`.

        Args:
            tables: edges and faults of the window.
            crosses: ``(E,)`` boundary edges whose parity is the class.
            observed: ``(E,)`` edges of the basis that has classes.
            order: ``(E,)`` where each edge of the tables is among those of the log-odds.
            nodes: of the window.
        """
        self._tables = tables
        self._order = order
        self._plain = -tables.edge_weight.astype(np.float32)
        self._side = observed.astype(np.uint8)
        self._hash = mix(np.arange(len(order)))
        none = np.zeros(0, dtype=np.int64)
        far = np.where(crosses, nodes, tables.edge_v)
        self._matcher = SparseMatcher(
            nodes + 8,
            tables.edge_u,
            far,
            np.zeros(len(order) + 1, dtype=np.int64),
            none,
            0,
            max_states=_STATES,
            complete=False,
        )
        of_side = [np.zeros(nodes + 8, dtype=bool) for _ in range(2)]
        for side in range(2):
            mine = self._side == side
            of_side[side][tables.edge_u[mine]] = True
            of_side[side][tables.edge_v[mine & (tables.edge_v >= 0)]] = True
        of_side[1][nodes] = True
        self._masks = np.stack([pack(one) for one in of_side])
        # The kernels are compiled now, or fetched from where they are kept.
        self.decode(self._plain[None], np.zeros((1, nodes // 8), dtype=np.uint8))

    @classmethod
    def of(cls, problem: Problem, closed: Problem, edges: Edges) -> JointDecoder | None:
        """A decoder; None for a window that has not one observable with two classes.

        Args:
            problem: the window's problem.
            closed: the same with its end closed (`qdec.windows.cut.cut_closed`).
            edges: the window's edges, in the order of the log-odds.
        """
        observables = np.unique(closed.ids)
        if len(observables) != 1:
            return None
        classes = boundary_classes(closed, flips_of(closed, int(observables[0])))
        if classes is None:
            return None
        sides, mask = classes
        if not mask.any():
            return None
        tables = tabulate(problem)
        nodes = problem.num_nodes
        crossing = edge_keys(closed.u[sides], closed.v[sides], nodes)
        order = np.argsort(edge_keys(edges.u, edges.v, nodes))
        observed = mask[tables.edge_u]
        return cls(tables, np.isin(tables.edge_key, crossing) & observed, observed, order, nodes)

    def decode(self, log_odds: NDArray[np.float32], syndromes: Bytes) -> JointAnswers:
        """Find the likelier class of each window.

        Args:
            log_odds: ``(B, E)`` float32: a network's, where one start begins; finite.
            syndromes: ``(B, num_nodes/8)`` uint8.
        """
        shots, edges = log_odds.shape
        # By start, by class, by window.
        shot = np.zeros((2, 2, shots, syndromes.shape[1] + 1), dtype=np.uint8)
        shot[..., :-1] = syndromes
        shot[:, 1, :, -1] = 1
        odds = np.empty((2, 2, shots, edges), dtype=np.float32)
        odds[0] = self._plain
        odds[1] = log_odds[:, self._order]
        flat = shot.reshape(4 * shots, syndromes.shape[1] + 1)
        place = np.arange(2 * shots).reshape(shots, 2).T.ravel()
        place = np.concatenate([place, place])
        answers, solved = self._matcher.solve(odds.reshape(4 * shots, edges), flat)
        feasible = np.flatnonzero(answers.feasible)
        rows = np.concatenate([feasible, feasible])
        side = np.zeros(len(rows), dtype=np.uint8)
        side[len(feasible) :] = 1
        chosen: Bytes = solved.view(np.uint8)[rows]
        # What a turn leads to depends on the edges of the other side alone: not twice.
        salt = mix(np.arange(4 * shots), np.ones(4 * shots, dtype=np.int64))
        seen: set[int] = set()
        found = _Found()
        keys = self._add(found, place[rows], chosen)
        for _ in range(_TURNS):
            state = salt[2 * place[rows] + side] ^ keys[np.arange(len(keys)), 1 - side]
            new = []
            for n, key in enumerate(state.tolist()):
                if key not in seen:
                    seen.add(key)
                    new.append(n)
            if not new:
                break
            rows, side = rows[new], side[new]
            chosen = self._turn(chosen[new], side, flat[rows])
            side ^= 1
            keys = self._add(found, place[rows], chosen)
        return found.answers(self._tables, shots)

    def _turn(self, chosen: Bytes, side: Bytes, shot: Bytes) -> Bytes:
        """Match one basis anew, beside what is chosen of the other."""
        odds = np.full(chosen.shape, _NEVER, dtype=np.float32)
        kernels.reweigh(self._tables, self._side, chosen, side, odds)
        answers, anew = self._matcher.solve(odds, shot & self._masks[side])
        mine = (self._side == side[:, None]) & answers.feasible[:, None]
        return np.where(mine, anew.view(np.uint8), chosen)

    def _add(self, found: _Found, place: Ints, chosen: Bytes) -> NDArray[np.uint64]:
        """Price sets and keep them; returns ``(R, 2)`` keys of their edges of either side."""
        weight = np.empty(len(chosen))
        keys = np.empty((len(chosen), 2), dtype=np.uint64)
        kernels.price(self._tables, chosen, self._side, self._hash, weight, keys)
        found.add(place, chosen, weight, keys[:, 0] ^ keys[:, 1])
        return keys


class _Found:
    """Sets of edges found, by place: two for each window, one for each class."""

    def __init__(self) -> None:
        self._place: list[Ints] = []
        self._chosen: list[Bytes] = []
        self._weight: list[Floats] = []
        self._key: list[NDArray[np.uint64]] = []

    def add(self, place: Ints, chosen: Bytes, weight: Floats, key: NDArray[np.uint64]) -> None:
        self._place.append(place)
        self._chosen.append(chosen)
        self._weight.append(weight)
        self._key.append(key)

    def answers(self, tables: Tables, shots: int) -> JointAnswers:
        """The lightest set of the lighter class of each window."""
        least, total = np.full((2, 2 * shots), np.inf)
        lightest = np.full(2 * shots, -1)
        kernels.weigh(
            np.concatenate(self._place),
            np.concatenate(self._weight),
            np.concatenate(self._key),
            least,
            total,
            lightest,
        )
        total = total.reshape(-1, 2)
        winner = 2 * np.arange(shots) + np.argmin(total, axis=1)
        known = np.flatnonzero(lightest[winner] >= 0)
        bits = np.zeros((shots, tables.edge_bits.shape[1]), dtype=np.uint8)
        out = np.zeros((len(known), bits.shape[1]), dtype=np.uint8)
        kernels.answer(tables, np.concatenate(self._chosen), lightest[winner[known]], out)
        bits[known] = out
        gap = np.zeros(shots)
        gap[known] = np.abs(total[known, 1] - total[known, 0])
        return JointAnswers(bits, gap, least[winner])
