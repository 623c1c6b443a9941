"""The fit engine: its intervals hold, noise is called noise, and what is doubtful is doubted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calibration import compare
from experiments import make
from scipy.optimize import least_squares

from qdec.calibration import Kind, Request
from qdec.calibration.fit import FitEngine
from qdec.calibration.response import Fit, Outcome, Response

ENGINE = FitEngine()
KINDS = list(Kind)


def request(kind: str, unit: str, traces: list[dict[str, Any]], **known: Any) -> Request:
    return Request.model_validate(
        {
            "experiment_id": "e-1",
            "operator": "mo",
            "device_id": "dev",
            "hardware_rev": "1",
            "request_ts": 1.0,
            "reason": "test",
            "experiment": {
                "kind": Kind(kind),
                "target": "q0",
                "axis": {"name": "x", "unit": unit},
            },
            "observations": {"traces": tuple(traces)},
            "current_params": {f"q0.{k}": {"value": v, "unit": u} for k, (v, u) in known.items()},
        }
    )


def trace(x: Any, y: Any, **more: Any) -> dict[str, Any]:
    return {"x": tuple(map(float, x)), "y": tuple(map(float, y)), **more}


def answer(*args: Any, **known: Any) -> Response:
    return ENGINE.answer(request(*args, **known), 2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_and_noise_is_called_noise(kind: Kind) -> None:
    """A small share of perf/calibration.py: bounds are where chance would hardly bring it."""
    held: list[bool] = []
    for seed in range(25):
        made = make(kind, "signal", seed)
        response = ENGINE.answer(made.request, 0.0)
        held += compare(made, response).values()
        if response.verdict.fit is Fit.RELIABLE:
            # Made three times as wide, an interval misses once in a hundred million.
            assert all(compare(made, response, 3.0).values()), seed
    assert np.mean(held) >= 0.8
    for seed in range(10):
        verdict = ENGINE.answer(make(kind, "none", seed).request, 0.0).verdict
        assert verdict.fit is Fit.NONE
        odd = make(kind, "odd", seed)
        assert ENGINE.answer(odd.request, 0.0).verdict.fit is not Fit.RELIABLE, odd.oddity


def test_the_minimum_is_that_of_scipys_least_squares() -> None:
    rng = np.random.default_rng(3)
    t = np.linspace(0, 40, 81)
    y = 0.2 + 0.7 * np.exp(-t / 12) + rng.normal(0, 0.03, len(t))
    response = answer("t1", "us", [trace(t, y, y_unit="mV")])
    oracle = least_squares(lambda p: p[0] + p[1] * np.exp(-t / p[2]) - y, [0.0, 1.0, 5.0])
    assert response.fit is not None
    (t1,) = response.fit.estimates
    assert t1.value == pytest.approx(oracle.x[2], rel=1e-4)
    assert response.fit.noise == pytest.approx(np.sqrt(2 * oracle.cost / (len(t) - 3)), rel=1e-4)
    # Where the decay is well within the sweep, the profile is nearly the covariance's interval.
    covariance = np.linalg.inv(oracle.jac.T @ oracle.jac) * 2 * oracle.cost / (len(t) - 3)
    assert t1.half == pytest.approx(1.99 * np.sqrt(covariance[2, 2]), rel=0.05)


def test_the_sign_of_a_detuning_needs_a_second_trace() -> None:
    rng = np.random.default_rng(4)
    t = np.linspace(0, 20, 121)

    def fringes(detuning: float, at: float) -> dict[str, Any]:
        p = 0.5 + 0.45 * np.exp(-t / 9) * np.cos(2 * np.pi * (detuning + at) * t)
        y = rng.binomial(1000, p) / 1000
        setting = {"artificial_detuning": {"value": at, "unit": "MHz"}}
        return trace(t, y, shots=1000, settings=setting)

    known = {"qubit_frequency": (5.0e9, "Hz")}
    for detuning in (0.2, -0.2):
        one = answer("ramsey", "us", [fringes(detuning, 0.6)], **known)
        assert one.verdict.fit is Fit.RELIABLE
        assert not one.suggested_actions
        assert any("second" in reason for reason in one.verdict.reasons)
        two = answer("ramsey", "us", [fringes(detuning, 0.6), fringes(detuning, 0.9)], **known)
        (action,) = two.suggested_actions
        assert action.parameter == "q0.qubit_frequency"
        assert action.from_ == 5.0e9
        assert action.to == pytest.approx(5.0e9 + detuning * 1e6, abs=5e3)
        assert action.unit == "Hz"
        assert two.verdict.outcome is Outcome.SUBOPTIMAL


def test_a_pi_pulse_that_is_off_is_mended_and_one_that_is_not_is_left() -> None:
    rng = np.random.default_rng(5)
    x = np.linspace(0, 1, 61)
    y = rng.binomial(1000, 0.05 + 0.9 * np.sin(np.pi * x / 0.8) ** 2) / 1000
    off = answer("rabi_amplitude", "V", [trace(x, y, shots=1000)], pi_amplitude=(300.0, "mV"))
    (action,) = off.suggested_actions
    assert (action.from_, action.unit) == (pytest.approx(0.3), "V")
    assert action.to == pytest.approx(0.4, abs=0.01)
    assert off.verdict.outcome is Outcome.SUBOPTIMAL
    assert off.fit is not None
    found = off.fit.estimates[0].value
    good = answer("rabi_amplitude", "V", [trace(x, y, shots=1000)], pi_amplitude=(found, "V"))
    assert good.verdict.outcome is Outcome.EXPECTED
    assert not good.suggested_actions


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_constant_trace_shows_nothing(level: float) -> None:
    x = np.linspace(0, 1, 40)
    for kind, unit in (("t1", "us"), ("rabi_amplitude", "V"), ("qubit_spectroscopy", "GHz")):
        response = answer(kind, unit, [trace(x, np.full(40, level))])
        assert response.verdict.fit is Fit.NONE
        assert not response.suggested_actions


def test_a_clipped_trace_is_an_apparatus_issue() -> None:
    x = np.linspace(0, 1, 81)
    y = np.clip(np.cos(2 * np.pi * 3 * x) + np.random.default_rng(6).normal(0, 0.02, 81), -0.6, 0.6)
    response = answer("rabi_amplitude", "V", [trace(x, y, y_unit="mV")])
    assert response.verdict.fit is Fit.UNRELIABLE
    assert response.verdict.outcome is Outcome.APPARATUS


def test_one_wild_point_changes_little() -> None:
    rng = np.random.default_rng(8)
    x = np.linspace(0, 100, 51)
    y = np.exp(-x / 30) + rng.normal(0, 0.02, 51)
    clean = answer("t1", "us", [trace(x, y, y_unit="mV")])
    y[20] = 3.0
    wild = answer("t1", "us", [trace(x, y, y_unit="mV")])
    assert clean.fit is not None
    assert wild.fit is not None
    assert wild.fit.dropped == 1
    assert wild.verdict.fit is Fit.RELIABLE
    assert wild.fit.estimates[0].value == pytest.approx(clean.fit.estimates[0].value, rel=0.05)


def test_an_answer_says_what_it_came_from_and_survives_the_wire() -> None:
    made = make(Kind.DRAG, "signal", 1)
    response = ENGINE.answer(made.request, 3.0)
    again = Response.model_validate_json(response.model_dump_json(by_alias=True))
    assert again == response
    assert response.model.engine == "fit"
    assert response.provenance.response_ts == 3.0
    assert ENGINE.answer(made.request, 3.0) == response
