"""Confidence: what it means, how it is fitted, and where it is not known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import ROTATED_Z, code, ring
from qdec.codes import Code
from qdec.errors import DataError
from qdec.match import Tier, compile_window
from qdec.match.assess import Assessor
from qdec.match.confidence import (
    EVENTS,
    GAP,
    Calibration,
    ConfidentWindow,
    fit,
)
from qdec.match.escalate import EscalatingWindow, Switching
from qdec.match.trial import WindowTrial
from qdec.windows import WHOLE, Geometry, Window
from qdec.windows.cut import Erasure

ASK = Switching(confidence=True)
WINDOWS = Geometry(12, 6)


def whole(made: Code) -> Window:
    rounds = made.spacetime.rounds
    return Window(0, rounds, rounds, rounds)


def deviations(p: np.ndarray, right: np.ndarray) -> np.ndarray:
    """By how many standard deviations each tenth of the windows misses what was said of it."""
    found = []
    for rows in np.array_split(np.argsort(p, kind="stable"), 10):
        expected, spread = p[rows].sum(), math.sqrt((p[rows] * (1 - p[rows])).sum())
        # A thousandth of the windows is let off: a logistic is not the truth to the last digit.
        slack = 0.004 * len(rows)
        found.append(max(0.0, abs(right[rows].sum() - expected) - slack) / max(spread, 1.0))
    return np.array(found)


def log_loss(p: np.ndarray, right: np.ndarray) -> float:
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(-np.where(right, np.log(p), np.log1p(-p)).mean())


# The map.


@settings(deadline=None, max_examples=50)
@given(offset=st.floats(-2, 3), slope=st.floats(0.2, 1.5), seed=st.integers(0, 1000))
def test_a_fit_finds_what_made_the_data(offset: float, slope: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.exponential(4, 20_000)
    right = rng.random(len(x)) < 1 / (1 + np.exp(-(offset + slope * x)))
    found = fit(GAP, x, right)
    exact = Calibration("gap", 0, offset, slope, 0, 0).apply(x)
    assert np.abs(found.apply(x) - exact).mean() < 0.02
    assert found.wrong == (~right).sum()


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), max_size=40))
def test_any_fit_is_finite_and_monotone(sample: list[tuple[float, bool]]) -> None:
    for kind in (GAP, EVENTS):
        x = np.array([one for one, _ in sample], dtype=np.float64)
        found = fit(kind, x, np.array([ok for _, ok in sample], dtype=np.bool_))
        p = found.apply(np.linspace(-100, 1e5, 300))
        assert np.isfinite(p).all()
        assert (np.diff(p) >= 0).all()
        assert (p >= 0).all()
        assert (p <= 1).all()


def test_a_signal_that_says_nothing_gives_the_rate() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(5000) < 0.8
    found = fit(EVENTS, -rng.poisson(20, 5000).astype(np.float64), right)
    assert found.apply(np.array([-20.0]))[0] == pytest.approx(right.mean(), abs=0.01)
    misleading = fit(EVENTS, np.where(right, -1.0, 1.0), right)
    assert misleading.slope == 0
    assert misleading.apply(np.array([-1.0, 1.0])) == pytest.approx([right.mean()] * 2, abs=0.01)


def test_unknown_signals_stay_unknown() -> None:
    x = np.array([1.0, np.nan, 3.0])
    found = fit(GAP, x, np.array([True, False, True]))
    assert (found.windows, found.wrong) == (2, 0)
    assert np.isnan(found.apply(x)).tolist() == [False, True, False]
    with pytest.raises(DataError, match="do not go with"):
        fit(GAP, x, np.array([True]))


@given(st.floats(0.01, 0.99), st.floats(-3, 3), st.floats(0.1, 2))
def test_thresholds_are_found_back(confidence: float, offset: float, slope: float) -> None:
    one = Calibration("gap", 1.0, offset, slope, 0, 0)
    assert one.apply(np.array([one.signal_at(confidence)]))[0] == pytest.approx(confidence)
    flat = Calibration("gap", 0.0, 0.0, 0.0, 0, 0)
    assert flat.signal_at(0.6) == math.inf
    assert flat.signal_at(0.4) == -math.inf


# Windows.


@pytest.mark.parametrize("tier", [Tier.MATCHING, Tier.CORRELATED])
@pytest.mark.parametrize(
    ("made", "geometry", "window"),
    [
        (code(ROTATED_Z, 3, 3, 0.006), WHOLE, Window(0, 4, 4, 4)),
        (code(ROTATED_Z, 5, 5, 0.006), WHOLE, Window(0, 6, 6, 6)),
        (code(ROTATED_Z, 3, 12, 0.006), WINDOWS, Window(40, 52, 6, None)),
        (code(ROTATED_Z, 3, 12, 0.006), WINDOWS, Window(40, 49, 9, 49)),
        (code(ROTATED_Z, 5, 12, 0.004), Geometry(15, 10), Window(40, 55, 10, None)),
    ],
    ids=["d3", "d5", "middle", "end", "d5 middle"],
)
def test_confidence_is_calibrated_on_windows_it_has_not_seen(
    made: Code, geometry: Geometry, window: Window, tier: Tier
) -> None:
    compiled = Assessor(made, tier, geometry, switching=ASK).compile(window)
    trial = WindowTrial(made, window)
    drawn = trial.draw(20_000, np.random.default_rng(77))
    answers = compiled.decode(drawn.syndromes)
    assert answers.confidence is not None
    assert answers.confidence.dtype == np.float32
    right = trial.right(drawn, answers)
    p = answers.confidence.astype(np.float64)
    print("DEV", deviations(p, right).round(1))
    assert deviations(p, right).max() < 5.5
    # Better than the rate alone, by far.
    assert log_loss(p, right) < 0.9 * log_loss(np.full(len(p), right.mean()), right)


def test_asking_changes_no_answer() -> None:
    made = code(ROTATED_Z, 3, 12, 0.006)
    window = Window(40, 52, 6, None)
    assessor = Assessor(made, Tier.MATCHING, WINDOWS, switching=ASK)
    compiled = assessor.compile(window)
    assert isinstance(compiled, ConfidentWindow)
    drawn = WindowTrial(made, window).draw(500, np.random.default_rng(1))
    plain = compile_window(made, Tier.MATCHING, WINDOWS, window).decode(drawn.syndromes)
    assert plain.confidence is None
    assert (compiled.decode(drawn.syndromes).bits == plain.bits).all()
    ((tier, calibration),) = assessor.calibrations
    assert (tier, calibration.signal) == (Tier.MATCHING, "gap")
    again = Assessor(made, Tier.MATCHING, WINDOWS, switching=ASK)
    again.compile(window)
    assert again.calibrations == assessor.calibrations  # on any machine, at any time


def test_where_there_is_no_gap_events_tell() -> None:
    made = Code.from_circuit(ring(p=0.03))
    window = whole(made)
    assessor = Assessor(made, Tier.MATCHING, WHOLE, switching=ASK)
    compiled = assessor.compile(window)
    assert assessor.calibrations[0][1].signal == "events"
    trial = WindowTrial(made, window)
    drawn = trial.draw(20_000, np.random.default_rng(5))
    answers = compiled.decode(drawn.syndromes)
    assert answers.confidence is not None
    right = trial.right(drawn, answers)
    assert deviations(answers.confidence.astype(np.float64), right).max() < 5.5
    lone = np.zeros_like(drawn.syndromes[:1])
    lone[0, 3] = 1
    answers = compiled.decode(lone)
    assert not answers.feasible[0]
    assert answers.confidence is not None
    assert np.isnan(answers.confidence[0])


def test_windows_compiled_while_serving_borrow_a_calibration() -> None:
    made = code(ROTATED_Z, 3, 12, 0.006)
    assessor = Assessor(made, Tier.MATCHING, WINDOWS, switching=ASK)
    end = Window(40, 49, 9, 49)
    unknown = assessor.compile(end, calibrate=False)
    assert unknown.decode(np.zeros((1, 9 * made.layout.record_bytes), np.uint8)).confidence is None
    assessor.compile(Window(40, 52, 6, None))
    erased = (Erasure(((41, 2), (42, 2))),)
    for compiled, rounds in (
        (assessor.compile(end, calibrate=False), 9),
        (assessor.compile(Window(40, 52, 6, None), erased), 12),
    ):
        nothing = np.zeros((1, rounds * made.layout.record_bytes), dtype=np.uint8)
        confidence = compiled.decode(nothing).confidence
        assert confidence is not None
        assert confidence[0] > 0.99
    assert len(assessor.calibrations) == 1


def test_parts_of_a_code_have_confidence() -> None:
    made = code(ROTATED_Z, 3, 12, 0.006)
    window = Window(40, 52, 6, None)
    for part in made.split(2):
        compiled = Assessor(made, Tier.MATCHING, WINDOWS, part, ASK).compile(window)
        trial = WindowTrial(made, window, part)
        drawn = trial.draw(10_000, np.random.default_rng(3))
        answers = compiled.decode(drawn.syndromes)
        assert answers.confidence is not None
        p = answers.confidence.astype(np.float64)
        assert deviations(p, trial.right(drawn, answers)).max() < 5.5


# Escalation.


def test_what_is_not_sure_enough_goes_up() -> None:
    made = code(ROTATED_Z, 3, 3, 0.01)
    window = whole(made)
    switching = Switching(tiers=(Tier.CORRELATED,), below=0.97)
    compiled = Assessor(made, Tier.MATCHING, WHOLE, switching=switching).compile(window)
    assert isinstance(compiled, EscalatingWindow)
    drawn = WindowTrial(made, window).draw(4000, np.random.default_rng(2))
    alone = {
        tier: Assessor(made, tier, WHOLE, switching=ASK).compile(window).decode(drawn.syndromes)
        for tier in (Tier.MATCHING, Tier.CORRELATED)
    }
    answers = compiled.decode(drawn.syndromes)
    assert answers.tiers is not None
    first = alone[Tier.MATCHING].confidence
    assert first is not None
    up = first < 0.97
    assert 0 < up.sum() < len(up) / 2
    assert (answers.tiers == np.where(up, Tier.CORRELATED, Tier.MATCHING)).all()
    for tier, rows in ((Tier.MATCHING, ~up), (Tier.CORRELATED, up)):
        assert (answers.bits[rows] == alone[tier].bits[rows]).all()
        said, same = answers.confidence, alone[tier].confidence
        assert said is not None
        assert same is not None
        np.testing.assert_array_equal(said[rows], same[rows])
    part = answers.part(10, 20)
    assert part.tiers is not None
    assert (part.tiers == answers.tiers[10:20]).all()


@pytest.mark.parametrize(("below", "up"), [(0.0, 0), (1.0, 4000)])
def test_thresholds_at_the_ends_ask_nobody_and_everybody(below: float, up: int) -> None:
    made = code(ROTATED_Z, 3, 3, 0.01)
    switching = Switching(tiers=(Tier.CORRELATED,), below=below)
    compiled = Assessor(made, Tier.MATCHING, WHOLE, switching=switching).compile(whole(made))
    drawn = WindowTrial(made, whole(made)).draw(4000, np.random.default_rng(2))
    answers = compiled.decode(drawn.syndromes)
    assert answers.tiers is not None
    assert (answers.tiers == Tier.CORRELATED).sum() == pytest.approx(up, abs=4000 * 0.9 * (up > 0))
