"""`calibration.request`: an experiment that was run, and what it showed."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Base64Bytes, Field, ValidationError, model_validator

from qdec.calibration.base import VERSION, Frozen, Line, Name, Number, Quantity, Timestamp, UnitName
from qdec.calibration.kinds import NEEDS, Kind
from qdec.calibration.units import unit
from qdec.errors import CalibrationError, ObservationError, UnitError, WireCode

MAX_BYTES = 8 << 20
MAX_POINTS = 16_384
MAX_IQ = 65_536
MAX_IMAGE = 1 << 20
_MAX_BASE64 = (MAX_IMAGE + 2) // 3 * 4
# Steps of an axis, relative to its span, and absolute: below, arithmetic loses them.
_FINEST, _LEAST_SPAN = 1e-7, 1e-15
_PNG = b"\x89PNG\r\n\x1a\n"

Axis = Annotated[tuple[Number, ...], Field(strict=False, min_length=2, max_length=MAX_POINTS)]
_Points = Annotated[tuple[Number, ...], Field(strict=False, min_length=1, max_length=MAX_IQ)]
_Shots = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Parameters = Annotated[dict[Name, Quantity], Field(max_length=256)]


class SweptAxis(Frozen):
    """What is swept, in which unit."""

    name: Name
    unit: UnitName


class Experiment(Frozen):
    """What was run on which part of the device (a qubit, a resonator, a pair)."""

    kind: Kind
    target: Name
    axis: SweptAxis | None = None


class Trace(Frozen):
    """One curve.

    Attributes:
        label: which of a kind's traces it is (`docs/calibration.md`); may be left out of others.
        x: swept values in the axis' unit, strictly increasing.
        y: observed value at each.
        y_unit: ``1`` for populations.
        shots: that each y is the average of; with a population, its noise is known then.
        settings: what differs between traces of one experiment.
    """

    label: Annotated[str, Field(max_length=32)] = ""
    x: Axis
    y: Axis
    y_unit: UnitName = "1"
    shots: _Shots | None = None
    settings: Annotated[dict[Name, Quantity], Field(max_length=16)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _shape(self) -> Trace:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} swept values, but {len(self.y)} observed ones")
        _increasing("x", self.x)
        return self


class Sweep(Frozen):
    """A map over two axes: ``z[i][j]`` at ``rows[i]``, ``columns[j]``."""

    rows: Axis
    columns: Axis
    row_axis: SweptAxis
    column_axis: SweptAxis
    z: Annotated[tuple[Axis, ...], Field(strict=False, min_length=2, max_length=2048)]
    z_unit: UnitName = "1"

    @model_validator(mode="after")
    def _shape(self) -> Sweep:
        _increasing("rows", self.rows)
        _increasing("columns", self.columns)
        if len(self.z) != len(self.rows) or any(len(r) != len(self.columns) for r in self.z):
            raise ValueError(f"z must be {len(self.rows)} rows of {len(self.columns)} values")
        return self


class IQPoints(Frozen):
    """Single shots of the readout after a known preparation."""

    prepared: Annotated[int, Field(ge=0, le=1)]
    i: _Points
    q: _Points
    unit: UnitName

    @model_validator(mode="after")
    def _shape(self) -> IQPoints:
        if len(self.i) != len(self.q):
            raise ValueError(f"{len(self.i)} values of I, but {len(self.q)} of Q")
        return self


class Image(Frozen):
    """A plot as a PNG file, base64 in JSON. Its size is bounded; nothing here decodes it."""

    png: Annotated[Base64Bytes, Field(max_length=_MAX_BASE64)]
    caption: Annotated[str, Field(max_length=500)] = ""

    @model_validator(mode="after")
    def _is_png(self) -> Image:
        if not self.png.startswith(_PNG):
            raise ValueError("the image is not a PNG file")
        if len(self.png) > MAX_IMAGE:
            raise ValueError(f"the image has {len(self.png)} bytes; {MAX_IMAGE} are allowed")
        return self


class Observations(Frozen):
    """What the experiment showed."""

    traces: Annotated[tuple[Trace, ...], Field(strict=False, max_length=16)] = ()
    sweeps: Annotated[tuple[Sweep, ...], Field(strict=False, max_length=4)] = ()
    iq: Annotated[tuple[IQPoints, ...], Field(strict=False, max_length=2)] = ()
    images: Annotated[tuple[Image, ...], Field(strict=False, max_length=4)] = ()

    @model_validator(mode="after")
    def _bounded(self) -> Observations:
        points = sum(len(t.x) for t in self.traces)
        points += sum(len(s.rows) * len(s.columns) for s in self.sweeps)
        if points > 4 * MAX_POINTS:
            raise ValueError(f"{points} points in all; {4 * MAX_POINTS} are allowed")
        return self


class Request(Frozen):
    """`calibration.request`: who asks for what, why, and all that the engine may know."""

    type: Literal["calibration.request"] = "calibration.request"
    version: Literal[1] = VERSION
    experiment_id: Name
    operator: Name
    device_id: Name
    hardware_rev: Name
    request_ts: Timestamp
    reason: Line
    ticket: Annotated[str, Field(max_length=64)] = ""
    experiment: Experiment
    observations: Observations
    current_params: _Parameters = Field(default_factory=dict)


def parse_request(body: bytes) -> Request:
    """Read and check a request.

    Raises:
        ObservationError: the data do not fit the kind of experiment.
        UnitError: a unit is of another dimension than the kind needs.
        CalibrationError: it is too large, or not a request of this version.
    """
    if len(body) > MAX_BYTES:
        error = CalibrationError(f"a request of {len(body)} bytes; {MAX_BYTES} are allowed")
        error.wire = WireCode.TOO_LARGE
        raise error
    try:
        request = Request.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "request"
        raise CalibrationError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    check(request)
    return request


def check(request: Request) -> None:
    """Do the observations fit the kind of experiment?

    Raises:
        ObservationError: traces are missing, too many or too short, or tell too little.
        UnitError: a unit is of another dimension than the kind needs.
    """
    kind, seen = request.experiment.kind, request.observations
    needs = NEEDS[kind]
    if kind is Kind.READOUT:
        if sorted(p.prepared for p in seen.iq) != [0, 1]:
            raise ObservationError("readout needs IQ points of two preparations, 0 and 1")
        if len({unit(p.unit).dimension for p in seen.iq}) > 1 or len({p.unit for p in seen.iq}) > 1:
            raise UnitError("the IQ points of both preparations must have one unit")
        if min(len(p.i) for p in seen.iq) < 50:
            raise ObservationError("readout needs 50 shots or more of each preparation")
        return
    axis = request.experiment.axis
    if axis is None:
        raise ObservationError(
            f"{kind.value} needs `experiment.axis`: what was swept, in what unit"
        )
    _measures(f"the axis of {kind.value}", axis.unit, [d.name for d in needs.axis])
    least, most = len(needs.labels), len(needs.labels) + needs.more
    if not least <= len(seen.traces) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ObservationError(f"{kind.value} needs {wanted} traces, not {len(seen.traces)}")
    if needs.labels != ("",) and sorted(t.label for t in seen.traces) != sorted(needs.labels):
        raise ObservationError(f"{kind.value} needs traces labelled {', '.join(needs.labels)}")
    for trace in seen.traces:
        fewest, highest = needs.points
        if not fewest <= len(trace.x) <= highest:
            raise ObservationError(
                f"{kind.value} needs {fewest} to {highest} points; a trace has {len(trace.x)}"
            )
        _measures(f"what {kind.value} observes", trace.y_unit, [d.name for d in needs.y])
        for name, dimension in needs.settings:
            if name not in trace.settings:
                raise ObservationError(f"each trace of {kind.value} needs the setting {name}")
            _measures(name, trace.settings[name].unit, [dimension.name])
    if needs.labels != ("",) and len({t.y_unit for t in seen.traces}) > 1:
        raise UnitError(f"the traces of {kind.value} must be observed in one unit")


def _measures(what: str, symbol: str, names: list[str]) -> None:
    if unit(symbol).dimension.name not in names:
        wanted = " or ".join(n.lower() for n in names)
        raise UnitError(f"{what} must be in a unit of {wanted}, not in {symbol}")


def _increasing(name: str, values: tuple[float, ...]) -> None:
    for i, (a, b) in enumerate(itertools.pairwise(values), 1):
        if a == b:
            raise ValueError(f"{name} has {a:g} twice, at {i - 1} and {i}: average repeated points")
        if a > b:
            raise ValueError(f"{name} must be sorted: {b:g} follows {a:g} at {i}")
    span = values[-1] - values[0]
    least = max(_FINEST * span, _LEAST_SPAN, 1e-12 * max(abs(values[0]), abs(values[-1])))
    if min(b - a for a, b in itertools.pairwise(values)) < least:
        raise ValueError(f"{name} has steps too small for its span or its size")
