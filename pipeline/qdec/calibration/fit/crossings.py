"""DRAG, CZ phase and the flux arch: kinds that set a working point."""

from __future__ import annotations

import math

import numpy as np

from qdec.calibration.fit import families
from qdec.calibration.fit.curve import Curve, Interval, fit
from qdec.calibration.fit.found import Doubt, Found, common, estimate, join, scale
from qdec.calibration.request import Request
from qdec.calibration.response import Check, Estimate, Outcome
from qdec.calibration.units import unit
from qdec.errors import ObservationError

_EDGE = 0.47
_VAGUE_PHASE = 0.35  # rad


def drag(request: Request) -> Found:
    """The coefficient at which both orders of two pulses leave the same population."""
    by_label = {t.label: t for t in request.observations.traces}
    scaled = join(by_label["xy"], by_label["yx"], centred=True)
    curve = fit(scaled.points, families.crossing())
    checks, doubts = common(curve, scaled)
    at = curve.profile[0]
    symbol = request.experiment.axis.unit if request.experiment.axis else "1"
    place = Interval(*(scaled.origin / scaled.span + v for v in (at.value, at.low, at.high)))
    turns = math.sqrt(max(1e-9, float(curve.theta[1])))
    if abs(at.value) > _EDGE or not at.closed:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the curves do not cross within the sweep"))
    elif turns > math.pi and np.any(np.abs(at.value + np.array([-1, 1]) * math.pi / turns) < _EDGE):
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the curves cross more than once"))
    elif curve.c[1] * curve.c[2] > 0:
        doubts.append(Doubt(Outcome.ANOMALOUS, "both curves rise, or both fall"))
    elif at.high - at.low > 0.3:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the crossing is too vague: average longer"))
    found = estimate("drag_coefficient", place, symbol, scaled.span)
    return _found("a + b_g sin(k (x - x0)) / k", curve, (found,), checks, doubts, scaled.height)


def cz_phase(request: Request) -> Found:
    """The conditional phase: between the target's fringes with the control in 1 and in 0."""
    by_label = {t.label: t for t in request.observations.traces}
    symbol = request.experiment.axis.unit if request.experiment.axis else "rad"
    factor = unit(symbol).factor
    both = [
        t.model_copy(update={"x": tuple(v * factor for v in t.x)})
        for t in (by_label["control_0"], by_label["control_1"])
    ]
    if min(t.x[-1] - t.x[0] for t in both) < math.pi:
        raise ObservationError("cz_phase needs sweeps over half a turn or more")
    scaled = join(*both)
    curve = fit(scaled.points, families.phases())
    checks, doubts = common(curve, scaled)
    phase, difference = curve.profile
    k = len(curve.c)
    errors = np.sqrt(np.diag(curve.covariance)[2:k])
    strength = np.abs(curve.c[2:]) / np.maximum(errors, 1e-300)
    flip = math.pi * float(curve.c[2] * curve.c[3] < 0)
    start = math.pi * float(curve.c[2] < 0)
    if strength.min() < 6 or max(difference.high - difference.low, 0) > 2 * _VAGUE_PHASE:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "a fringe is too weak for its phase"))
    if abs(np.diff(np.abs(curve.c[2:]))[0]) > 0.5 * np.abs(curve.c[2:]).max():
        words = "the fringes differ in contrast: leakage, or a preparation that fails"
        doubts.append(Doubt(Outcome.ANOMALOUS, words))
    turn = estimate("conditional_phase", _wrapped(difference, flip), "rad")
    single = estimate("target_phase", _wrapped(phase, start), "rad")
    return _found(
        "a_g + b_g cos(x - phi - g D)", curve, (turn, single), checks, doubts, scaled.height
    )


def flux_arch(request: Request) -> Found:
    """The sweet spot and the frequency there."""
    trace = request.observations.traces[0]
    scaled = scale(trace, centred=True)
    curve = fit(scaled.points, families.arch())
    checks, doubts = common(curve, scaled)
    at = curve.profile[0]
    symbol = request.experiment.axis.unit if request.experiment.axis else "V"
    place = Interval(*(scaled.origin / scaled.span + v for v in (at.value, at.low, at.high)))
    top = curve.linear(np.array([1.0, 0.0]))
    base = scaled.base / scaled.height
    top = Interval(*(v + base for v in (top.value, top.low, top.high)))
    if abs(at.value) > _EDGE or not at.closed:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the sweet spot is outside of the sweep"))
    elif curve.c[1] > 0:
        doubts.append(Doubt(Outcome.ANOMALOUS, "the arch is upside down"))
    elif at.high - at.low > 0.1:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the sweet spot is too vague"))
    estimates = (
        estimate("sweet_spot", place, symbol, scaled.span),
        estimate("f_max", top, trace.y_unit, scaled.height),
    )
    words = "f_max - B (1 - sqrt|cos(pi (x - x0) / P)|)"
    return _found(words, curve, estimates, checks, doubts, scaled.height)


def _wrapped(angle: Interval, more: float) -> Interval:
    """An angle brought into (−π, π], with its interval around it."""
    value = math.remainder(angle.value + more, 2 * math.pi)
    moved = value - angle.value
    return Interval(value, angle.low + moved, angle.high + moved)


def _found(
    words: str,
    curve: Curve,
    estimates: tuple[Estimate, ...],
    checks: list[Check],
    doubts: list[Doubt],
    height: float,
) -> Found:
    return Found(
        words,
        curve.signal,
        estimates,
        tuple(checks),
        tuple(doubts),
        curve.sigma * height,
        len(curve.points.x),
        int(np.sum(~curve.kept)),
    )
