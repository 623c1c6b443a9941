"""One window as a matching problem, against the window read off Stim's flattened model by hand."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pymatching
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.circuits import (
    REPETITION,
    ROTATED_X,
    ROTATED_Z,
    code,
    memory,
    ring,
    two_patches,
    without_reset,
)
from helpers.models import instructions_in_rounds
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.windows import Geometry, Window, choose_geometry
from qdec.windows.cut import Erasure, Problem, answer_bytes, cut, merge_parallel

CODES = {
    "rotated Z": code(ROTATED_Z, 3, 9),
    "rotated X": code(ROTATED_X, 3, 9),
    "repetition": code(REPETITION, 5, 9),
    "ring": Code.from_circuit(ring(rounds=9)),
    "two patches": Code.from_circuit(two_patches(memory(ROTATED_Z, 3, 9))),
    "without reset": Code.from_circuit(without_reset(memory(ROTATED_Z, 3, 9))),
}

# (probability, {(nodes, ids): how often}) of each instruction
Edges = Counter[tuple[float, frozenset[tuple[tuple[frozenset[int], frozenset[int]], int]]]]


def by_hand(made: Code, start: int, end: int, commit: int) -> Edges:
    """DESIGN §6, word for word."""
    row = 8 * made.layout.record_bytes
    seam_start = 8 * ((made.num_observables + 7) // 8)
    out: Edges = Counter()
    for instruction, p in placed(made).items():
        parts: Counter[tuple[frozenset[int], frozenset[int]]] = Counter()
        for (places, observables), n in instruction:
            rounds = [r for r, _ in places]
            if min(rounds) < start or min(rounds) >= end:
                continue
            nodes = frozenset((r - start) * row + b for r, b in places if r < end)
            ids: frozenset[int] = frozenset()
            if min(rounds) < start + commit:
                beyond = [(r, b) for r, b in places if r >= start + commit]
                seam = (seam_start + (r - start - commit) * row + b for r, b in beyond)
                ids = observables | frozenset(seam)
            parts[nodes, ids] += n
        if parts:
            out[round(p, 12), frozenset(parts.items())] += 1
    return out


@cache
def placed(made: Code) -> dict[frozenset, float]:
    return instructions_in_rounds(made.dem, made.layout)


def as_edges(problem: Problem) -> Edges:
    parts: dict[int, Counter[tuple[frozenset[int], frozenset[int]]]] = {}
    p: dict[int, float] = {}
    for k, group in enumerate(problem.group.tolist()):
        nodes = frozenset({int(problem.u[k])} | ({int(problem.v[k])} - {-1}))
        ids = problem.ids[problem.id_ptr[k] : problem.id_ptr[k + 1]].tolist()
        assert ids == sorted(set(ids))
        parts.setdefault(group, Counter())[nodes, frozenset(ids)] += 1
        assert p.setdefault(group, float(problem.p[k])) == problem.p[k]
    return Counter((round(p[g], 12), frozenset(parts[g].items())) for g in parts)


@pytest.mark.parametrize("made", CODES.values(), ids=CODES.keys())
@given(data=st.data())
@settings(max_examples=25)
def test_windows_are_as_the_design_says(made: Code, data: st.DataObject) -> None:
    space = made.spacetime
    start = data.draw(st.integers(0, space.rounds - 1))
    end = data.draw(st.integers(start + 1, space.rounds))
    longest = end - start if end == space.rounds else end - start - space.span
    assume(longest >= 1)
    commit = end - start if end == space.rounds else data.draw(st.integers(1, longest))
    problem = cut(space, Window(start, end, commit, space.rounds))
    assert as_edges(problem) == by_hand(made, start, end, commit)
    assert problem.num_nodes == 8 * made.layout.record_bytes * (end - start)
    assert (problem.frame_bytes, problem.seam_bytes) == answer_bytes(space)
    assert problem.num_ids == 8 * (problem.frame_bytes + problem.seam_bytes)
    assert (problem.ids < problem.num_ids).all()
    assert (problem.ids >= 0).all()


@pytest.mark.parametrize("made", CODES.values(), ids=CODES.keys())
def test_windows_whose_committing_edges_are_cut_off_are_refused(made: Code) -> None:
    span = made.spacetime.span
    for buffer in range(4):
        window = Window(2, 5 + buffer, 3, made.spacetime.rounds)
        geometry = Geometry(3 + buffer, 3)
        if buffer >= span:
            cut(made.spacetime, window)
            choose_geometry(geometry, made, endless=False)
            continue
        with pytest.raises(GeometryError, match="past the window's end"):
            cut(made.spacetime, window)
        with pytest.raises(GeometryError, match="buffer"):
            choose_geometry(geometry, made, endless=False)


def test_stretched_and_endless_windows_are_cut_alike() -> None:
    space = CODES["rotated Z"].spacetime
    windows = [Window(5, 9, 2, None), Window(5, 9, 2, 40), Window(30, 34, 2, 40)]
    first, *others = [
        as_edges(cut(space, w)) for w in (*windows, Window(10**6, 10**6 + 4, 2, None))
    ]
    assert all(other == first for other in others)


OBSERVABLES = 100


def many_observables(rounds: int = 12) -> str:
    """A hundred repetition codes of distance 3 side by side, each with its own observable."""
    lines = []
    for r in range(rounds):
        for k in range(OBSERVABLES):
            a, b = (f"D{2 * (r * OBSERVABLES + k) + i}" for i in range(2))
            lines += [f"detector({k}, 0, {r}) {a}", f"detector({k}, 1, {r}) {b}"]
            p = 0.01 + k / 10_000
            lines += [f"error({p}) {a} L{k}", f"error({p}) {a} {b}", f"error({p}) {b}"]
            if r < rounds - 1:
                for i in range(2):
                    d = 2 * (r * OBSERVABLES + k) + i
                    lines.append(f"error({p / 2}) D{d} D{d + 2 * OBSERVABLES}")
    return "\n".join(lines)


def test_a_hundred_observables_lie_before_the_seam() -> None:
    made = Code.parse("dem", many_observables())
    assert made.num_observables == OBSERVABLES
    problem = cut(made.spacetime, Window(2, 6, 3, 12))
    assert (problem.frame_bytes, problem.seam_bytes) == (13, 25)
    assert as_edges(problem) == by_hand(made, 2, 6, 3)
    assert {i for i in problem.ids.tolist() if i < 104} == set(range(OBSERVABLES))


_EDGE = st.tuples(
    st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.6]),
    st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True),
    st.lists(st.integers(0, 2), max_size=2, unique=True),
)


@given(st.lists(_EDGE, min_size=1, max_size=25))
@settings(max_examples=300)
def test_parallel_edges_merge_as_in_pymatching(
    edges: list[tuple[float, list[int], list[int]]],
) -> None:
    assume(any(p > 0 for p, _, _ in edges))
    text = "detector(0, 0, 0) D3\nlogical_observable L2\n" + "".join(
        f"detector(0, 0, 0) D{d}\n" for d in range(3)
    )
    for p, detectors, observables in edges:
        flips = [f"D{d}" for d in detectors] + [f"L{o}" for o in observables]
        text += f"error({p}) {' '.join(flips)}\n"
    made = Code.parse("dem", text)
    problem = cut(made.spacetime, Window(0, 1, 1, 1))
    merged = merge_parallel(problem)

    # All detectors are of one round, so node numbers are detector numbers.
    got = {}
    for e, k in enumerate(merged.component.tolist()):
        ids = problem.ids[problem.id_ptr[k] : problem.id_ptr[k + 1]].tolist()
        ends = frozenset({int(merged.u[e]), int(merged.v[e])} - {-1})
        got[ends] = (float(merged.p[e]), set(ids))
    want = {
        frozenset({u, v} - {None}): (with_["error_probability"], with_["fault_ids"])
        for u, v, with_ in pymatching.Matching.from_detector_error_model(made.dem).edges()
    }
    assert got.keys() == want.keys()
    for ends, (p, ids) in want.items():
        assert got[ends] == (pytest.approx(p, rel=1e-9), ids)

    said: dict[frozenset[int], set[frozenset[int]]] = {}
    for p, detectors, observables in edges:
        if p > 0:
            said.setdefault(frozenset(detectors), set()).add(frozenset(observables))
    assert merged.conflicts == sum(len(opinions) > 1 for opinions in said.values())


def test_real_models_merge_as_in_pymatching() -> None:
    made = CODES["without reset"]
    n = made.spacetime.rounds
    problem = cut(made.spacetime, Window(0, n, n, n))
    merged = merge_parallel(problem)
    row = 8 * made.layout.record_bytes
    node = made.layout.round_of * row + made.layout.bit_of
    graph = pymatching.Matching.from_detector_error_model(made.dem)
    want = {
        frozenset({int(node[d]) for d in (u, v) if d is not None}): with_["error_probability"]
        for u, v, with_ in graph.edges()
    }
    got = {
        frozenset({int(u), int(v)} - {-1}): float(p)
        for u, v, p in zip(merged.u, merged.v, merged.p, strict=True)
    }
    assert got == pytest.approx(want, rel=1e-6)
    assert (np.diff(merged.component) > 0).all()  # in the model's order: it breaks ties
    assert merged.conflicts == 0


class TestErasures:
    """Faults of probability one half, added where a reading was lost."""

    space = CODES["rotated Z"].spacetime
    plain = cut(space, Window(2, 7, 3, 10))
    row = 8 * CODES["rotated Z"].layout.record_bytes

    def added(self, *erasures: Erasure) -> Edges:
        problem = cut(self.space, Window(2, 7, 3, 10), erasures)
        assert problem.num_ids == self.plain.num_ids
        more = as_edges(problem)
        more.subtract(as_edges(self.plain))
        assert min(more.values()) >= 0
        return +more

    def edge(self, nodes: set[int], ids: set[int]) -> Edges:
        return Counter({(0.5, frozenset({((frozenset(nodes), frozenset(ids)), 1)})): 1})

    def test_within_the_commit_region(self) -> None:
        row = self.row
        assert self.added(Erasure(((2, 1), (3, 1)))) == self.edge({1, row + 1}, set())
        assert self.added(Erasure(((3, 4),), (0,))) == self.edge({row + 4}, {0})

    def test_across_the_seam(self) -> None:
        row, seam = self.row, 8
        assert self.added(Erasure(((4, 1), (5, 2)), (0,))) == self.edge(
            {2 * row + 1, 3 * row + 2}, {0, seam + 2}
        )
        assert self.added(Erasure(((5, 2), (4, 1)), (0,))) == self.edge(
            {2 * row + 1, 3 * row + 2}, {0, seam + 2}
        )

    def test_in_the_buffer(self) -> None:
        row = self.row
        assert self.added(Erasure(((5, 1), (6, 1)), (0,))) == self.edge(
            {3 * row + 1, 4 * row + 1}, set()
        )
        assert self.added(Erasure(((6, 1), (7, 1)), (0,))) == self.edge({4 * row + 1}, set())

    def test_outside_the_window(self) -> None:
        assert not self.added(Erasure(((1, 1), (2, 1))), Erasure(((7, 1),)), Erasure(((0, 1),)))

    def test_what_does_not_fit_the_seam_is_refused(self) -> None:
        for detectors in ((), ((3, 1), (3, 2), (3, 3)), ((2, 1), (4, 1))):
            with pytest.raises(GeometryError, match="erasure"):
                cut(self.space, Window(2, 7, 3, 10), (Erasure(detectors),))


def test_stims_order_of_detectors_does_not_matter_to_ids() -> None:
    """A pair listed later-detector-first commits by its earlier one all the same."""
    text = "".join(f"detector(0, 0, {r}) D{r}\n" for r in range(8))
    forward = text + "".join(f"error(0.1) D{r} D{r + 1} L0\n" for r in range(7))
    backward = text + "".join(f"error(0.1) D{r + 1} D{r} L0\n" for r in range(7))
    one, other = (Code.parse("dem", t).spacetime for t in (forward, backward))
    window = Window(2, 6, 2, 8)
    assert as_edges(cut(one, window)) == as_edges(cut(other, window))


def test_problems_keep_the_order_of_the_model() -> None:
    """Ties are broken by it, so the same code must always give the same problem."""
    made = CODES["rotated Z"]
    again = Code.from_circuit(memory(ROTATED_Z, 3, 9))
    one, other = (cut(m.spacetime, Window(2, 7, 3, 10)) for m in (made, again))
    for name in Problem.__dataclass_fields__:
        assert np.array_equal(getattr(one, name), getattr(other, name))
