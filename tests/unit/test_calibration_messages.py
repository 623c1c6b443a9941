"""Calibration messages: what is refused, and with which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdec.calibration import parse_request
from qdec.calibration.request import MAX_BYTES, MAX_POINTS
from qdec.calibration.schema import schemas
from qdec.calibration.units import Dimension, convert, unit
from qdec.errors import CalibrationError, ObservationError, UnitError

ROOT = Path(__file__).parents[2]


def body(**changes: Any) -> dict[str, Any]:
    """A T1 experiment as a client would send it."""
    x = [float(i) for i in range(31)]
    trace = {"x": x, "y": [0.9**i for i in range(31)], "shots": 500}
    message: dict[str, Any] = {
        "type": "calibration.request",
        "version": 1,
        "experiment_id": "e-1",
        "operator": "mo",
        "device_id": "dev",
        "hardware_rev": "b2",
        "request_ts": 1.7e9,
        "reason": "weekly check",
        "ticket": "CAL-7",
        "experiment": {"kind": "t1", "target": "q0", "axis": {"name": "delay", "unit": "us"}},
        "observations": {"traces": [trace]},
        "current_params": {"q0.t1": {"value": 10.0, "unit": "us"}},
    }
    return message | changes


def with_trace(**changes: Any) -> dict[str, Any]:
    message = body()
    message["observations"]["traces"][0].update(changes)
    return message


def refused(message: Any) -> CalibrationError:
    with pytest.raises(CalibrationError) as caught:
        parse_request(json.dumps(message).encode())
    return caught.value


def test_a_request_is_taken_and_cannot_be_changed() -> None:
    request = parse_request(json.dumps(body()).encode())
    assert request.observations.traces[0].shots == 500
    with pytest.raises(ValueError, match="frozen"):
        request.__setattr__("operator", "eve")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (with_trace(x=[0.0], y=[1.0]), "at least 2 items"),
        (with_trace(x=[0.0, 1.0, 1.0], y=[1.0] * 3), "twice"),
        (with_trace(x=[0.0, 2.0, 1.0], y=[1.0] * 3), "sorted"),
        (with_trace(y=[1.0] * 30), "31 swept values, but 30 observed"),
        (with_trace(y=[float("nan")] * 31), "finite|number"),
        (with_trace(y=[float("inf")] * 31), "finite|number"),
        (with_trace(y=[1e300] * 31), "less than or equal"),
        (with_trace(x=list(range(MAX_POINTS + 1)), y=[0.0] * (MAX_POINTS + 1)), "at most 16384"),
        (with_trace(y_unit="furlong"), "unknown unit|at most"),
        (with_trace(shots=0), "greater than"),
        (with_trace(shots="many"), "integer"),
        (with_trace(colour="red"), "[Ee]xtra"),
        (body(version=2), "version"),
        (body(experiment={"kind": "astrology", "target": "q0"}), "kind"),
        (body(operator="a b"), "operator"),
        (body(reason=""), "reason"),
        (body(observations={"images": [{"png": "aGVsbG8="}]}), "not a PNG"),
        ([], "object|dictionary|valid"),
    ],
)
def test_a_bad_message_is_refused_by_name(message: Any, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        parse_request(json.dumps(message).encode())


def test_two_million_points_are_refused_by_their_bytes() -> None:
    with pytest.raises(CalibrationError, match=f"{MAX_BYTES} are allowed"):
        parse_request(b"[" + b"0.123,," * 2_000_000)
    many = json.dumps(with_trace(x=list(range(400_000)), y=[0] * 400_000)).encode()
    with pytest.raises(CalibrationError, match="at most 16384"):
        parse_request(many)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"observations": {}}, ObservationError, "needs 1 traces, not 0"),
        ({"experiment": {"kind": "t1", "target": "q0"}}, ObservationError, "axis"),
        (
            {"experiment": {"kind": "t1", "target": "q0", "axis": {"name": "x", "unit": "mV"}}},
            UnitError,
            "unit of time, not in mV",
        ),
        ({"experiment": {"kind": "readout", "target": "q0"}}, ObservationError, "preparations"),
        (
            {"experiment": {"kind": "ramsey", "target": "q0", "axis": {"name": "t", "unit": "us"}}},
            ObservationError,
            "artificial_detuning",
        ),
        (
            {"experiment": {"kind": "drag", "target": "q0", "axis": {"name": "b", "unit": "1"}}},
            ObservationError,
            "2 traces",
        ),
    ],
)
def test_data_must_fit_their_experiment(
    changes: dict[str, Any], kind: type[CalibrationError], words: str
) -> None:
    error = refused(body(**changes))
    assert isinstance(error, kind)
    assert words in str(error)


def test_units_convert_within_their_dimension_only() -> None:
    assert convert(1.5, "GHz", "MHz") == pytest.approx(1500)
    assert convert(180, "deg", "rad") == pytest.approx(3.14159265)
    assert unit("mV").dimension is Dimension.VOLTAGE
    with pytest.raises(UnitError, match="frequency"):
        convert(1, "MHz", "us")
    with pytest.raises(UnitError, match="unknown unit"):
        unit("Mdeg")


def test_the_published_schemas_are_current() -> None:
    for name, text in schemas().items():
        path = ROOT / "docs" / "schemas" / name
        assert path.read_text() == text, (
            "run: .venv/bin/python -m qdec.calibration.schema docs/schemas"
        )
