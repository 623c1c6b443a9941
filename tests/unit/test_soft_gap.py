"""The gap under a network's weights, and the confidence of soft tiers that follows from it."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.circuits import ROTATED_X, ROTATED_Z, code, ring
from qdec.codes import Code
from qdec.match import Tier, compile_window
from qdec.match.assess import Assessor
from qdec.match.confidence import SOFT_GAP, ConfidentWindow, SignallingWindow
from qdec.match.drawing import WindowSampler
from qdec.match.escalate import Switching
from qdec.match.gap import GapMeter
from qdec.match.soft_gap import SoftGap
from qdec.match.sparse import SparseMatcher
from qdec.match.trial import WindowTrial
from qdec.windows import WHOLE, Geometry, Window
from qdec.windows.cut import cut, cut_closed, merge_parallel


def whole(made: Code) -> Window:
    rounds = made.spacetime.rounds
    return Window(0, rounds, rounds, rounds)


@pytest.mark.parametrize(("task", "d"), [(ROTATED_X, 3), (ROTATED_Z, 3), (ROTATED_Z, 5)])
def test_with_the_priors_weights_it_is_matchings_gap(task: str, d: int) -> None:
    made = code(task, d, 4, 0.006)
    window = whole(made)
    problem, closed = cut(made.spacetime, window), cut_closed(made.spacetime, window)
    edges = merge_parallel(problem)
    soft, plain = SoftGap.of(closed, edges), GapMeter.of(closed)
    assert soft is not None
    assert plain is not None
    syndromes, _ = WindowSampler(problem).draw(300, np.random.default_rng(1))
    odds = np.log(edges.p / (1 - edges.p)).astype(np.float32)
    found = soft.measure(np.repeat(odds[None], len(syndromes), axis=0), syndromes)
    np.testing.assert_allclose(found, plain.measure(syndromes), atol=0.01)


def test_weights_are_each_windows_own_and_nonsense_is_not_known() -> None:
    made = code(ROTATED_Z, 3, 4, 0.006)
    window = whole(made)
    edges = merge_parallel(cut(made.spacetime, window))
    soft = SoftGap.of(cut_closed(made.spacetime, window), edges)
    assert soft is not None
    odds = np.repeat(np.log(edges.p / (1 - edges.p)).astype(np.float32)[None], 3, axis=0)
    odds[1] *= 2
    odds[2] = np.nan
    nothing = np.zeros((3, made.spacetime.rounds * made.layout.record_bytes), dtype=np.uint8)
    gap = soft.measure(odds, nothing)
    assert gap[1] == pytest.approx(2 * gap[0], rel=1e-4)
    assert np.isnan(gap[2])


@pytest.mark.parametrize("bound", [0.5, 4.0, 8.0, 20.0])
@pytest.mark.parametrize(
    ("made", "window"),
    [
        (code(ROTATED_Z, 3, 3, 0.01), Window(0, 4, 4, 4)),
        (code(ROTATED_X, 5, 6, 0.01), Window(0, 7, 7, 7)),
        (code(ROTATED_Z, 3, 12, 0.01), Window(40, 49, 5, None)),
        (code(ROTATED_Z, 5, 12, 0.01), Window(40, 50, 5, None)),
    ],
    ids=["d=3", "d=5", "d=3 middle", "d=5 middle"],
)
def test_gaps_below_a_bound_are_those_that_are_measured(
    made: Code, window: Window, bound: float
) -> None:
    problem = cut(made.spacetime, window)
    edges = merge_parallel(problem)
    soft = SoftGap.of(cut_closed(made.spacetime, window), edges)
    assert soft is not None
    rng = np.random.default_rng(3)
    syndromes, _ = WindowSampler(problem).draw(300, rng)
    odds = np.log(edges.p / (1 - edges.p)) + rng.normal(0, 1.5, (300, len(edges.p)))
    odds = odds.astype(np.float32)
    odds[7] = np.nan
    odds[8] *= 0
    _, chosen = SparseMatcher.from_problem(problem).solve(odds, syndromes)
    chosen[::5] = rng.random(chosen[::5].shape) < 0.5  # whatever class it suggests
    wanted, found = soft.measure(odds, syndromes), soft.below(odds, syndromes, chosen, bound)
    low = wanted < bound
    np.testing.assert_allclose(found[low], wanted[low], rtol=0, atol=1e-9)
    assert not (found[~low] < bound).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    assert low.any() or bound < 1


def test_loops_have_no_gap() -> None:
    made = Code.from_circuit(ring())
    edges = merge_parallel(cut(made.spacetime, whole(made)))
    assert SoftGap.of(cut_closed(made.spacetime, whole(made)), edges) is None


@pytest.mark.parametrize(
    ("made", "geometry", "window"),
    [
        (code(ROTATED_Z, 3, 3, 0.008), WHOLE, Window(0, 4, 4, 4)),
        (code(ROTATED_Z, 3, 12, 0.006), Geometry(9, 5), Window(40, 49, 5, None)),
    ],
    ids=["whole", "middle"],
)
def test_soft_tiers_are_calibrated(made: Code, geometry: Geometry, window: Window) -> None:
    bare = compile_window(made, Tier.ACCURACY, geometry, window)
    assert isinstance(bare, SignallingWindow)
    assert bare.signal == SOFT_GAP
    ask = Switching(confidence=True)
    compiled = Assessor(made, Tier.ACCURACY, geometry, switching=ask).compile(window)
    assert isinstance(compiled, ConfidentWindow)
    trial = WindowTrial(made, window)
    drawn = trial.draw(4000, np.random.default_rng(9))
    answers = compiled.decode(drawn.syndromes)
    assert (answers.bits == bare.decode(drawn.syndromes).bits).all()
    assert answers.confidence is not None
    p, right = answers.confidence.astype(np.float64), trial.right(drawn, answers)
    for rows in np.array_split(np.argsort(p, kind="stable"), 5):
        spread = np.sqrt(max(1.0, (p[rows] * (1 - p[rows])).sum()))
        assert abs(p[rows].sum() - right[rows].sum()) < 5.5 * spread + 0.005 * len(rows)


def test_a_soft_tier_asks_correlated_matching() -> None:
    made, window = code(ROTATED_Z, 3, 3, 0.008), Window(0, 4, 4, 4)
    switching = Switching(tiers=(Tier.CORRELATED,), below=0.9)
    assessor = Assessor(made, Tier.ACCURACY, WHOLE, switching=switching)
    compiled = assessor.compile(window)
    drawn = WindowTrial(made, window).draw(2000, np.random.default_rng(9))
    answers = compiled.decode(drawn.syndromes)
    assert answers.tiers is not None
    assert set(answers.tiers.tolist()) == {Tier.ACCURACY, Tier.CORRELATED}
    assert [one.signal for _, one in assessor.calibrations] == ["soft gap"] * 2
    assert answers.confidence is not None
    assert (answers.confidence[answers.tiers == Tier.ACCURACY] >= np.float32(0.9)).all()
