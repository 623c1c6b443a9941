"""The complementary gap, against the weights of explicit solutions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import REPETITION, ROTATED_X, ROTATED_Z, UNROTATED_Z, code, ring
from qdec.bits import Bytes, pack
from qdec.codes import Code
from qdec.match.drawing import WindowSampler
from qdec.match.gap import NO_RIVAL, GapMeter
from qdec.windows import Window
from qdec.windows.cut import Problem, cut, cut_closed, merge_parallel


def whole(made: Code) -> Window:
    rounds = made.spacetime.rounds
    return Window(0, rounds, rounds, rounds)


def drawn(problem: Problem, n: int, seed: int = 0) -> tuple[Bytes, Bytes]:
    return WindowSampler(problem).draw(n, np.random.default_rng(seed))


def by_enumeration(problem: Problem, syndrome: np.ndarray) -> float:
    """Weights of all sets of edges, by hand: only for a handful of edges."""
    edges = merge_parallel(problem)
    best = {0: math.inf, 1: math.inf}
    weight = np.log((1 - edges.p) / edges.p)
    has = np.diff(problem.id_ptr)[edges.component] > 0
    for chosen in itertools.product([False, True], repeat=len(edges.p)):
        events = np.zeros(problem.num_nodes, dtype=np.uint8)
        for k in np.flatnonzero(chosen):
            events[edges.u[k]] ^= 1
            if edges.v[k] >= 0:
                events[edges.v[k]] ^= 1
        if (events == syndrome).all():
            class_ = int(has[list(chosen)].sum() % 2)
            best[class_] = min(best[class_], float(weight[list(chosen)].sum()))
    return abs(best[1] - best[0])


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_the_gap_is_that_of_the_best_solutions(data: st.DataObject) -> None:
    """A chain whose observable may be flipped by any of its edges, inner ones included."""
    n = data.draw(st.integers(2, 5))
    p = st.floats(0.01, 0.4)
    where = data.draw(st.integers(0, n))
    lines = [f"detector({i}, 0, 0) D{i}" for i in range(n)]
    for i in range(n + 1):
        flips = " ".join(f"D{k}" for k in (i - 1, i) if 0 <= k < n)
        lines.append(f"error({data.draw(p)!r}) {flips}{' L0' if i == where else ''}")
    lines.append(f"error({data.draw(p)!r}) D0 D{n - 1}{' L0' if 0 < where < n else ''}")
    made = Code.parse("dem", "\n".join(lines))
    problem = cut_closed(made.spacetime, whole(made))
    meter = GapMeter.of(problem)
    assert meter is not None
    events = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    syndrome = np.zeros(problem.num_nodes, dtype=np.uint8)
    syndrome[made.layout.bit_of] = events
    found = float(meter.measure(pack(syndrome)[None])[0])
    assert found == pytest.approx(by_enumeration(problem, syndrome), abs=1e-3)


@pytest.mark.parametrize("task", [ROTATED_X, ROTATED_Z, UNROTATED_Z, REPETITION])
def test_without_events_the_gap_is_the_lightest_logical_error(task: str) -> None:
    """Stim's circuits, in which it is d faults; and what is confused most has no gap at all."""
    made = code(task, 5, 6, 0.004)
    problem = cut_closed(made.spacetime, whole(made))
    meter = GapMeter.of(problem)
    assert meter is not None
    nothing = np.zeros((1, problem.num_nodes // 8), dtype=np.uint8)
    (gap,) = meter.measure(nothing)
    edges = merge_parallel(problem)
    weight = np.log((1 - edges.p) / edges.p)
    assert 5 * weight.min() - 1e-3 <= gap <= 5 * weight.max() + 1e-3
    syndromes, _ = drawn(problem, 400)
    some = meter.measure(syndromes)
    assert (some >= 0).all()
    assert (some <= gap + 1e-3).all()
    assert some.min() < gap / 2
    # One shot at a time gives what a batch gives.
    alone = [float(meter.measure(one[None])[0]) for one in syndromes[:20]]
    np.testing.assert_allclose(alone, some[:20], atol=1e-6)


def test_a_loop_that_flips_the_observable_has_no_gap() -> None:
    made = Code.from_circuit(ring())
    assert GapMeter.of(cut_closed(made.spacetime, whole(made))) is None


def test_a_frame_without_a_rival_is_sure() -> None:
    text = "error(0.1) D0 L0\nerror(0.1) D0 D1\ndetector(0, 0, 0) D0\ndetector(1, 0, 0) D1"
    made = Code.parse("dem", text)
    meter = GapMeter.of(cut_closed(made.spacetime, whole(made)))
    assert meter is not None
    assert meter.measure(np.zeros((2, 1), dtype=np.uint8)).tolist() == [NO_RIVAL] * 2


def test_the_least_sure_observable_counts() -> None:
    def chain(first: int, p: float, observable: int) -> str:
        return (
            f"error({p}) D{first} L{observable}\nerror({p}) D{first} D{first + 1}\n"
            f"error({p}) D{first + 1}\n"
        )

    text = chain(0, 0.1, 0) + chain(2, 0.01, 1)
    text += "".join(f"detector({i}, 0, 0) D{i}\n" for i in range(4))
    made = Code.parse("dem", text)
    meter = GapMeter.of(cut_closed(made.spacetime, whole(made)))
    assert meter is not None
    (gap,) = meter.measure(np.zeros((1, 1), dtype=np.uint8))
    assert gap == pytest.approx(3 * math.log(9), abs=1e-3)


def test_closing_a_window_leaves_out_what_its_end_cuts_off() -> None:
    made = code(ROTATED_Z, 3, 12, 0.004)
    space = made.spacetime
    window = Window(5, 11, 3, None)
    opened, closed = cut(space, window), cut_closed(space, window)
    kept = (opened.far < opened.num_nodes).sum()
    assert len(closed.p) == kept < len(opened.p)
    end = cut_closed(space, whole(made))
    same = cut(space, whole(made))
    assert end.u.tolist() == same.u.tolist()
    assert end.ids.tolist() == same.ids.tolist()


def test_drawn_windows_have_the_statistics_of_stims() -> None:
    made = code(ROTATED_Z, 3, 4, 0.01)
    n = 40_000
    records, truth = drawn(cut(made.spacetime, whole(made)), n)
    shots, flips, _ = made.dem.compile_sampler(seed=4).sample(n, bit_packed=True)
    expected = made.layout.to_records(shots).reshape(n, -1)
    for ours, stims in ((records, expected), (truth[:, :1], flips)):
        a = np.unpackbits(ours, axis=1, bitorder="little").astype(float)
        b = np.unpackbits(stims, axis=1, bitorder="little").astype(float)
        np.testing.assert_allclose(a.mean(0), b.mean(0), atol=5 * math.sqrt(2 * 0.25 / n))
        # Pairs as well: what fires together fires together.
        np.testing.assert_allclose((a.T @ a) / n, (b.T @ b) / n, atol=5 * math.sqrt(2 * 0.06 / n))
    assert not truth[:, 1:].any()
