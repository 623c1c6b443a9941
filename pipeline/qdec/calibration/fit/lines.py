"""Spectroscopy: where a line is, and how wide."""

from __future__ import annotations

import numpy as np

from qdec.calibration.fit import families
from qdec.calibration.fit.curve import Interval, fit
from qdec.calibration.fit.found import Doubt, Found, common, estimate, mapped, scale
from qdec.calibration.request import Request
from qdec.calibration.response import Outcome

_EDGE = 0.47  # of the span, from its middle
_WIDEST = 0.2  # half width, of the span


def resonator(request: Request) -> Found:
    """The resonator's frequency and linewidth from \\|S21\\|²."""
    return _line(request, True, ("resonator_frequency", "linewidth"))


def qubit(request: Request) -> Found:
    """The qubit's frequency and the (power-broadened) linewidth."""
    return _line(request, False, ("qubit_frequency", "linewidth"))


def _line(request: Request, asymmetric: bool, names: tuple[str, str]) -> Found:
    trace = request.observations.traces[0]
    scaled = scale(trace, centred=True)
    curve = fit(scaled.points, families.line(asymmetric))
    checks, doubts = common(curve, scaled, lines=True)
    symbol = request.experiment.axis.unit if request.experiment.axis else "Hz"
    at = curve.profile[0]
    centre = Interval(*(scaled.origin / scaled.span + v for v in (at.value, at.low, at.high)))
    half = mapped(curve.profile[1], np.exp)
    step = float(np.median(np.diff(curve.points.x)))
    if abs(at.value) > _EDGE or not at.closed:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the line is at the edge of the span, or outside"))
    elif half.value > _WIDEST:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the line is wider than the span shows"))
    elif half.value < 0.75 * step:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the line is narrower than the steps resolve"))
    elif at.high - at.low > 2 * half.value:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the line's place is too vague: average longer"))
    return Found(
        "a + s f + (b + c d) / (1 + d^2)" if asymmetric else "a + b / (1 + d^2)",
        curve.signal,
        (
            estimate(names[0], centre, symbol, scaled.span),
            estimate(names[1], half, symbol, 2 * scaled.span),
        ),
        tuple(checks),
        tuple(doubts),
        curve.sigma * scaled.height,
        len(curve.points.x),
        int(np.sum(~curve.kept)),
    )
