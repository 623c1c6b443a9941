"""Matching with a window's own weights, against PyMatching and against all sets of edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pymatching
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import REPETITION, ROTATED_X, ROTATED_Z, code, ring
from qdec.bits import pack, unpack
from qdec.codes import Code
from qdec.errors import DataError, GeometryError
from qdec.match.sparse import Route, SparseAnswers, SparseMatcher
from qdec.windows import Window
from qdec.windows.cut import Problem, cut, merge_parallel, restrict
from qdec_tools.circuits import memory


@dataclass(frozen=True)
class Case:
    """Edges, and windows to decode over them."""

    nodes: int
    u: np.ndarray
    v: np.ndarray
    ids: list[list[int]]
    num_ids: int

    def matcher(self, **bounds: int) -> SparseMatcher:
        id_ptr = np.cumsum([0, *map(len, self.ids)])
        flat = np.array([i for row in self.ids for i in row], dtype=np.int64)
        return SparseMatcher(self.nodes, self.u, self.v, id_ptr, flat, self.num_ids, **bounds)

    @property
    def checks(self) -> np.ndarray:
        """``(nodes, E)``: which edges flip which nodes."""
        out = np.zeros((self.nodes, len(self.u)), dtype=np.uint8)
        for e, (u, v) in enumerate(zip(self.u.tolist(), self.v.tolist(), strict=True)):
            out[u, e] = 1
            if v >= 0:
                out[v, e] = 1
        return out

    def by_pymatching(self, log_odds: np.ndarray, events: np.ndarray) -> float:
        """Least weight, built edge by edge; inf where there is none."""
        graph = pymatching.Matching()
        for u, v, w in zip(self.u.tolist(), self.v.tolist(), log_odds.tolist(), strict=True):
            if v < 0:
                graph.add_boundary_edge(u, weight=-w)
            else:
                graph.add_edge(u, v, weight=-w)
        if graph.num_detectors < self.nodes and events[graph.num_detectors :].any():
            return np.inf
        try:
            return float(graph.decode(events[: graph.num_detectors], return_weight=True)[1])
        except ValueError:
            return np.inf

    def by_hand(self, log_odds: np.ndarray, events: np.ndarray) -> float:
        """Least weight of all 2^E sets."""
        sets = np.arange(1 << len(self.u))[:, None] >> np.arange(len(self.u)) & 1
        fits = (sets @ self.checks.T % 2 == events).all(axis=1)
        return float((-(sets[fits] @ log_odds.astype(np.float64))).min(initial=np.inf))


def case_of(problem: Problem) -> Case:
    edges = merge_parallel(problem)
    ids = [
        problem.ids[problem.id_ptr[c] : problem.id_ptr[c + 1]].tolist()
        for c in edges.component.tolist()
    ]
    return Case(problem.num_nodes, edges.u, edges.v, ids, problem.num_ids)


@st.composite
def cases(draw: st.DrawFn, most_nodes: int, most_edges: int) -> Case:
    nodes = draw(st.integers(1, most_nodes))
    pairs = st.tuples(st.integers(0, nodes - 1), st.integers(-1, nodes - 1))
    ends = draw(
        st.lists(
            pairs.filter(lambda x: x[0] != x[1]),
            max_size=most_edges,
            unique_by=lambda x: {*x} and tuple(sorted(x)),
        )
    )
    num_ids = draw(st.integers(0, 20))
    ids = st.lists(st.integers(0, num_ids - 1), max_size=3) if num_ids else st.just([])
    flat = np.array(ends, dtype=np.int64).reshape(-1, 2)
    return Case(nodes, flat[:, 0], flat[:, 1], [draw(ids) for _ in ends], num_ids)


def check_answers(
    case: Case, answers: SparseAnswers, chosen: np.ndarray, log_odds: np.ndarray, events: np.ndarray
) -> None:
    """An answer is a set of edges that explains the syndrome and has the weight and ids it says."""
    ok = answers.feasible
    assert (chosen[ok] @ case.checks.T % 2 == events[ok]).all()
    assert not chosen[~ok].any()
    ids = np.zeros((case.num_ids, len(case.u)), dtype=np.int64)
    for e, row in enumerate(case.ids):
        np.add.at(ids[:, e], row, 1)
    assert (unpack(answers.bits, case.num_ids) == chosen @ ids.T % 2).all()
    weights = -np.clip(log_odds.astype(np.float64), -64, 64)
    np.testing.assert_allclose((weights * chosen).sum(axis=1)[ok], answers.weight[ok], rtol=1e-12)
    lightest = np.minimum(weights, 0).sum(axis=1)
    np.testing.assert_allclose((answers.weight - lightest)[ok], answers.residual[ok], atol=1e-9)
    assert (answers.residual[answers.route == Route.EMPTY] == 0).all()


# Few values: ties, zeros and windows in which nearly nothing is certain are the hard ones.
COARSE = st.sampled_from([-5.0, -3.0, -2.5, -2.0, -1.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0])
FINE = st.floats(-12, 6, width=32)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_set_of_edges_is_lighter(data: st.DataObject) -> None:
    case = data.draw(cases(7, 11))
    e = len(case.u)
    log_odds = np.array(data.draw(st.lists(COARSE, min_size=e, max_size=e)), dtype=np.float32)
    events = np.array(
        data.draw(st.lists(st.booleans(), min_size=case.nodes, max_size=case.nodes)), dtype=np.uint8
    )
    matcher = case.matcher()
    answers, chosen = matcher.solve(log_odds[None], pack(events)[None])
    check_answers(case, answers, chosen, log_odds[None], events[None])
    assert answers.weight[0] == case.by_hand(log_odds, events)
    assert answers.route[0] != Route.FULL
    assert answers.feasible[0] == np.isfinite(answers.weight[0])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_larger_graphs_are_matched_as_by_pymatching(data: st.DataObject) -> None:
    case = data.draw(cases(40, 120))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    shots, e = 8, len(case.u)
    log_odds = rng.normal(-3, 3, (shots, e)).astype(np.float32)
    errors = rng.random((shots, e)) < rng.choice([0.05, 0.5])
    events = (errors @ case.checks.T % 2).astype(np.uint8)
    if data.draw(st.booleans()):  # likely infeasible
        events ^= (rng.random(events.shape) < 0.05).astype(np.uint8)
    answers, chosen = case.matcher().solve(log_odds, pack(events))
    check_answers(case, answers, chosen, log_odds, events)
    want = [case.by_pymatching(x, s) for x, s in zip(log_odds, events, strict=True)]
    np.testing.assert_allclose(answers.weight, want, atol=1e-4)
    assert (answers.route != Route.SICK).all()


WINDOWS = {
    "d=3": (code(ROTATED_Z, 3, 9), Window(0, 9, 9, 9)),
    "d=5 first": (code(ROTATED_Z, 5, 20), Window(0, 10, 5, None)),
    "d=5 middle": (code(ROTATED_X, 5, 20), Window(5, 15, 5, None)),
    "d=5 last": (code(ROTATED_Z, 5, 20), Window(10, 21, 11, 21)),
    "d=7": (code(ROTATED_Z, 7, 7), Window(0, 7, 3, None)),
    "repetition": (code(REPETITION, 5, 9), Window(2, 9, 3, None)),
    "ring": (Code.from_circuit(ring(rounds=8)), Window(0, 8, 4, None)),
}


@cache
def window(name: str) -> Problem:
    made, where = WINDOWS[name]
    return cut(made.spacetime, where)


def posteriors(
    problem: Problem, shots: int, rng: np.random.Generator, doubt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds as from a network that sees each edge through noise, and the true events."""
    case, p = case_of(problem), merge_parallel(problem).p
    errors = rng.random((shots, len(p))) < 3 * p  # busier than in life
    seen = np.where(errors, 1, -1) + rng.normal(0, doubt, errors.shape)
    log_odds = np.log(p / (1 - p)) + 2 / doubt**2 * seen
    return log_odds.astype(np.float32), (errors @ case.checks.T % 2).astype(np.uint8)


@pytest.mark.parametrize("doubt", [0.5, 0.8, 2.0])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_with_seams_are_matched_as_by_pymatching(name: str, doubt: float) -> None:
    problem = window(name)
    case, rng = case_of(problem), np.random.default_rng(7)
    log_odds, events = posteriors(problem, 40, rng, doubt)
    answers, chosen = SparseMatcher.from_problem(problem).solve(log_odds, pack(events))
    check_answers(case, answers, chosen, log_odds, events)
    want = [case.by_pymatching(x, s) for x, s in zip(log_odds, events, strict=True)]
    np.testing.assert_allclose(answers.weight, want, atol=2e-4)
    assert answers.counts[Route.FULL] == 0


def test_constant_weights_are_plain_matching() -> None:
    problem = window("d=5 middle")
    case, p = case_of(problem), merge_parallel(problem).p
    rng = np.random.default_rng(3)
    errors = rng.random((60, len(p))) < p
    events = (errors @ case.checks.T % 2).astype(np.uint8)
    log_odds = np.tile(np.log(p / (1 - p)).astype(np.float32), (60, 1))
    answers = SparseMatcher.from_problem(problem).decode(log_odds, pack(events))
    want = [case.by_pymatching(x, s) for x, s in zip(log_odds, events, strict=True)]
    np.testing.assert_allclose(answers.weight, want, atol=2e-4)


@cache
def dense(d: int) -> tuple[Case, np.ndarray, SparseMatcher]:
    """A whole window: its edges, how likely they are, and a matcher."""
    made = Code.from_circuit(memory(d, d, 0.006))
    rounds = made.spacetime.rounds
    problem = cut(made.spacetime, Window(0, rounds, rounds, rounds))
    return case_of(problem), merge_parallel(problem).p, SparseMatcher.from_problem(problem)


@settings(max_examples=30, deadline=None)
@given(
    d=st.sampled_from([5, 7, 9]),
    busy=st.sampled_from([0.5, 1.0, 1.5]),
    spread=st.sampled_from([0.0, 0.7]),
    coarse=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_dense_windows_are_matched_as_by_pymatching(
    d: int, busy: float, spread: float, coarse: bool, seed: int
) -> None:
    """All events are left to match: with a code's own weights, others near them, and many ties."""
    case, p, matcher = dense(d)
    rng = np.random.default_rng(seed)
    errors = rng.random((4, len(p))) < busy * p
    events = (errors @ case.checks.T % 2).astype(np.uint8)
    log_odds = np.log(p / (1 - p)) + spread * rng.normal(size=(4, len(p)))
    log_odds = np.minimum(np.round(log_odds) if coarse else log_odds, -0.01).astype(np.float32)
    answers, chosen = matcher.solve(log_odds, pack(events))
    check_answers(case, answers, chosen, log_odds, events)
    want = [case.by_pymatching(x, s) for x, s in zip(log_odds, events, strict=True)]
    np.testing.assert_allclose(answers.weight, want, atol=3e-4)


def test_dense_windows_stay_within_bounds() -> None:
    """At d = 7 hardly a window of the code's own weights is left to PyMatching."""
    case, p, matcher = dense(7)
    errors = np.random.default_rng(2).random((300, len(p))) < p
    events = (errors @ case.checks.T % 2).astype(np.uint8)
    log_odds = np.tile(np.log(p / (1 - p)).astype(np.float32), (300, 1))
    assert matcher.decode(log_odds, pack(events)).counts[Route.FULL] <= 3


@pytest.mark.parametrize("bound", ["max_events", "max_settled", "max_states"])
def test_beyond_a_bound_pymatching_answers_alike(bound: str) -> None:
    problem = window("d=5 middle")
    log_odds, events = posteriors(problem, 60, np.random.default_rng(11), 1.0)
    case = replace(case_of(problem), nodes=problem.num_nodes + 8)  # eight without edges
    events = np.pad(events, ((0, 0), (0, 8)))
    syndromes = pack(events)
    free, bound_ = case.matcher(), case.matcher(**{bound: 2})
    want = free.decode(log_odds, syndromes)
    answers, chosen = bound_.solve(log_odds, syndromes)
    assert answers.counts[Route.FULL] > 0
    check_answers(case, answers, chosen, log_odds, events)
    np.testing.assert_allclose(answers.weight, want.weight, atol=2e-4)
    np.testing.assert_allclose(answers.residual, want.residual, atol=2e-4)
    events[:, -1] = 1
    answers, chosen = bound_.solve(log_odds, pack(events))
    assert not answers.feasible.any()
    assert not answers.bits.any()
    assert not chosen.any()
    assert np.isinf(answers.weight).all()


def test_half_dense_syndromes_of_a_large_window_are_answered() -> None:
    problem = cut(code(ROTATED_Z, 9, 9).spacetime, Window(0, 9, 4, None))
    case, rng = case_of(problem), np.random.default_rng(0)
    errors = rng.random((3, len(case.u))) < 0.5
    events = (errors @ case.checks.T % 2).astype(np.uint8)
    log_odds = np.tile(rng.normal(-6, 1, len(case.u)).astype(np.float32), (3, 1))
    answers, chosen = SparseMatcher.from_problem(problem).solve(log_odds, pack(events))
    check_answers(case, answers, chosen, log_odds, events)
    assert answers.counts[Route.FULL] == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sick_windows_harm_no_others(seed: int) -> None:
    """One window's answer depends on nothing else in its batch, whatever bits are floats."""
    rng = np.random.default_rng(seed)
    problem = window("d=3")
    case, matcher = case_of(problem), SparseMatcher.from_problem(problem)
    log_odds, events = posteriors(problem, 12, rng, 1.0)
    at = rng.integers(0, log_odds.shape[1], 12)
    for row, value in enumerate([np.nan, -np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45]):
        log_odds[row, at[row]] = value
    raw = log_odds.view(np.uint32)
    raw[7, at[7]] = 0x7F800001  # a signalling NaN
    raw[8, at[8]] = 0xFFC00000
    raw[9] = rng.integers(0, 2**32, log_odds.shape[1])
    sick = np.isnan(log_odds).any(axis=1)
    answers, chosen = matcher.solve(log_odds, pack(events))
    assert (answers.sick == sick).all()
    assert not (answers.feasible & sick).any()
    assert not answers.bits[sick].any()
    assert np.isnan(answers.weight[sick]).all()
    clipped = np.clip(log_odds, -64, 64)
    ok = np.flatnonzero(~sick)
    check_answers(case, answers, chosen, np.nan_to_num(log_odds), events)
    for b in ok.tolist():
        alone = matcher.decode(clipped[b : b + 1], pack(events[b : b + 1]))
        assert alone.weight[0] == answers.weight[b]
        assert (alone.bits[0] == answers.bits[b]).all()
        want = case.by_pymatching(clipped[b], events[b])
        assert answers.weight[b] == pytest.approx(want, abs=1e-3)


def test_a_part_passes_over_the_events_of_others() -> None:
    problem = window("d=5 first")
    pair = problem.v >= 0
    label = np.arange(problem.num_nodes)
    for _ in range(problem.num_nodes):
        low = np.minimum(label[problem.u[pair]], label[problem.v[pair]])
        before = label.copy()
        np.minimum.at(label, problem.u[pair], low)
        np.minimum.at(label, problem.v[pair], low)
        if (before == label).all():
            break
    mine = label == label[problem.u[0]]
    parts = [restrict(problem, mine), restrict(problem, ~mine)]
    edges = merge_parallel(problem)
    log_odds, events = posteriors(problem, 50, np.random.default_rng(5), 0.8)
    whole = SparseMatcher.from_problem(problem).decode(log_odds, pack(events))
    bits, weight = np.zeros_like(whole.bits), 0
    for part, nodes in zip(parts, (mine, ~mine), strict=True):
        of_part = np.ascontiguousarray(log_odds[:, nodes[edges.u]])
        answers = SparseMatcher.from_problem(part).decode(of_part, pack(events))
        assert answers.feasible.all()
        bits ^= answers.bits
        weight = weight + answers.weight
    assert (bits == whole.bits).all()
    np.testing.assert_allclose(weight, whole.weight)


def test_nothing_to_decode() -> None:
    empty = Case(3, np.zeros(0, np.int64), np.zeros(0, np.int64), [], 0)
    matcher = empty.matcher()
    answers = matcher.decode(np.zeros((2, 0), np.float32), np.array([[0], [1]], np.uint8))
    assert answers.route.tolist() == [Route.EMPTY, Route.INFEASIBLE]
    assert answers.bits.shape == (2, 0)
    assert len(matcher.decode(np.zeros((0, 0), np.float32), np.zeros((0, 1), np.uint8)).weight) == 0


@pytest.mark.parametrize(
    ("log_odds", "syndromes"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((1, 1), np.uint8)),
        (np.zeros((1, 2), np.float32), np.zeros((1, 1), np.uint8)),
        (np.zeros((1, 3), np.float64), np.zeros((1, 1), np.uint8)),
        (np.zeros((1, 3), np.float32), np.zeros((1, 2), np.uint8)),
        (np.zeros((1, 3), np.float32), np.zeros((1, 1), np.int8)),
        (np.zeros(3, np.float32), np.zeros((1, 1), np.uint8)),
    ],
)
def test_arrays_of_other_shapes_are_refused(log_odds: np.ndarray, syndromes: np.ndarray) -> None:
    case = Case(2, np.array([0, 1, 0]), np.array([1, -1, -1]), [[0], [], []], 1)
    with pytest.raises(DataError, match="must be"):
        case.matcher().decode(log_odds, syndromes)


def test_a_matcher_takes_views() -> None:
    case = Case(2, np.array([0, 1, 0]), np.array([1, -1, -1]), [[0], [], []], 1)
    log_odds = np.asfortranarray(np.array([[-1, -2, -4], [3, -2, -4]], np.float32))
    syndromes = np.array([[3, 9], [0, 9]], np.uint8)[:, :1]
    answers = case.matcher().decode(log_odds, syndromes)
    assert answers.weight.tolist() == [1.0, 0.0]
    assert answers.bits.tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("nodes", "u", "v", "ids", "num_ids"),
    [
        (0, [], [], [], 0),
        (2, [0, 1], [1, 0], [[], []], 0),
        (2, [0, 0], [-1, -1], [[], []], 0),
        (2, [1], [1], [[]], 0),
        (2, [-1], [0], [[]], 0),
        (2, [0], [2], [[]], 0),
        (2, [0], [-2], [[]], 0),
        (2, [0], [1], [[1]], 1),
        (2, [0], [1], [[-1]], 1),
        (2, [0, 1], [1], [[]], 1),
        (1 << 25, [0], [1], [[]], 0),
    ],
)
def test_edges_that_are_no_graph_are_refused(
    nodes: int, u: list[int], v: list[int], ids: list[list[int]], num_ids: int
) -> None:
    with pytest.raises(GeometryError):
        Case(nodes, np.array(u, np.int64), np.array(v, np.int64), ids, num_ids).matcher()
