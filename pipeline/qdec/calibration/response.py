"""`calibration.response`: what an engine makes of an experiment, and what it would change."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from qdec.calibration.base import VERSION, Frozen, Line, Name, Number, Share, Timestamp, UnitName
from qdec.calibration.kinds import Kind


class Outcome(StrEnum):
    """What the experiment says about the device."""

    EXPECTED = "expected behaviour"
    SUBOPTIMAL = "suboptimal parameters"
    ANOMALOUS = "anomalous behaviour"
    APPARATUS = "apparatus issue"


class Fit(StrEnum):
    """May the numbers be used?"""

    RELIABLE = "reliable"
    UNRELIABLE = "unreliable"
    NONE = "none"


class Verdict(Frozen):
    """The verdict; `reasons` say why it is not better."""

    outcome: Outcome
    fit: Fit
    reasons: Annotated[tuple[Line, ...], Field(strict=False, max_length=32)] = ()


class Estimate(Frozen):
    """A fitted number and its 95 % interval; None is an end that the data do not bound."""

    name: Name
    value: Number
    low: Number | None
    high: Number | None
    unit: UnitName

    @model_validator(mode="after")
    def _ordered(self) -> Estimate:
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise ValueError("the interval must hold the value")
        return self

    @property
    def closed(self) -> bool:
        """Do the data bound it on both sides?"""
        return self.low is not None and self.high is not None

    @property
    def half(self) -> float:
        """Half of the interval's width; infinite where it is open."""
        if self.low is None or self.high is None:
            return float("inf")
        return (self.high - self.low) / 2


class Check(Frozen):
    """A test of the fit; `value` is its p-value or ratio."""

    name: Name
    passed: bool
    value: Number
    detail: Annotated[str, Field(max_length=500)] = ""


class Action(Frozen):
    """A suggested change of one parameter. Nothing is applied before the guardrails allow it."""

    parameter: Name
    from_: Annotated[Number | None, Field(alias="from")]
    to: Number
    unit: UnitName
    why: Line


class FitReport(Frozen):
    """The numbers behind a verdict."""

    kind: Kind
    model: Line
    estimates: Annotated[tuple[Estimate, ...], Field(strict=False, max_length=32)]
    checks: Annotated[tuple[Check, ...], Field(strict=False, max_length=32)]
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    points: Annotated[int, Field(ge=0)]
    dropped: Annotated[int, Field(ge=0)]


class ModelIdentity(Frozen):
    """Which engine answered."""

    engine: Name
    version: Name


class Provenance(Frozen):
    """What an answer came from."""

    request_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    device_id: Name
    hardware_rev: Name
    request_ts: Timestamp
    response_ts: Timestamp


class Response(Frozen):
    """`calibration.response`."""

    type: Literal["calibration.response"] = "calibration.response"
    version: Literal[1] = VERSION
    experiment_id: Name
    suggested_actions: Annotated[tuple[Action, ...], Field(strict=False, max_length=16)]
    fit: FitReport | None
    confidence: Share
    verdict: Verdict
    model: ModelIdentity
    provenance: Provenance
