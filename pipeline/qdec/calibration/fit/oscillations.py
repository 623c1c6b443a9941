"""Rabi and Ramsey: what swings."""

from __future__ import annotations

import itertools
import math

import numpy as np

from qdec.calibration.fit import families
from qdec.calibration.fit.curve import Curve, Interval, fit
from qdec.calibration.fit.found import Doubt, Found, common, estimate, mapped, scale
from qdec.calibration.request import Request, Trace
from qdec.calibration.response import Estimate, Outcome
from qdec.calibration.units import convert, unit

# Periods that a sweep must show, and the share of the sampling limit that it may reach.
LEAST_PERIODS, MOST_NYQUIST = 0.6, 0.8
_LONG, _VAGUE = 1.5, 0.35
# Ramsey traces whose detunings differ by so many standard deviations contradict each other.
_APART = 4.0


def rabi_amplitude(request: Request) -> Found:
    """The amplitude of a π pulse: half of a period."""
    trace = request.observations.traces[0]
    scaled = scale(trace, origin=0.0)
    curve = fit(scaled.points, families.rabi_amplitude())
    checks, doubts = common(curve, scaled)
    period = mapped(curve.profile[0], inverse=True)
    symbol = request.experiment.axis.unit if request.experiment.axis else "1"
    pi = estimate("pi_amplitude", period, symbol, scaled.span / 2)
    doubts += _frequency(curve, trace, scaled.span)
    expected = _current(request, "pi_amplitude", symbol)
    if expected:
        doubts += _folded(curve, trace, scaled.span, 1 / (2 * expected))
    return Found(
        "a + b cos(pi A / A_pi)",
        curve.signal,
        (
            pi,
            estimate("contrast", curve.linear(np.array([0.0, -2.0])), trace.y_unit, scaled.height),
        ),
        tuple(checks),
        tuple(doubts),
        curve.sigma * scaled.height,
        len(curve.points.x),
        int(np.sum(~curve.kept)),
    )


def rabi_time(request: Request) -> Found:
    """The Rabi frequency, the length of a π pulse, and how fast the swing dies."""
    trace = request.observations.traces[0]
    found, curve, span = _damped(request, trace, "rabi_decay")
    symbol = request.experiment.axis.unit if request.experiment.axis else "s"
    half = estimate("pi_time", mapped(curve.profile[0], inverse=True), symbol, span / 2)
    doubts = list(found.doubts)
    expected = _current(request, "pi_time", symbol)
    if expected:
        doubts += _folded(curve, trace, span, 1 / (2 * expected))
    rest = tuple(e for e in found.estimates if e.name != "fringe_frequency")
    rabi = found["fringe_frequency"].model_copy(update={"name": "rabi_frequency"})
    # How a pulse's swing decays is told, not relied on: a π pulse is far shorter than that.
    return _with(found, (half, rabi, *rest), doubts)


def ramsey(request: Request) -> Found:
    """The detuning, whose sign two artificial detunings tell, and T2*."""
    fitted = [_damped(request, t, "t2_star", limited=True) for t in request.observations.traces]
    found = fitted[0][0]
    doubts = [d for f, _, _ in fitted for d in f.doubts]
    set_at = [t.settings["artificial_detuning"].si for t in request.observations.traces]
    for (_, curve, span), trace, at in zip(
        fitted, request.observations.traces, set_at, strict=True
    ):
        symbol = request.experiment.axis.unit if request.experiment.axis else "s"
        if at:
            doubts += _folded(curve, trace, span, abs(at) * convert(1, symbol, "s"))
    if len(fitted) == 1:
        note = "one trace does not tell the sign of the detuning: take a second one, at another "
        return _with(found, found.estimates, doubts, (note + "artificial detuning",))
    if max(f.signal for f, _, _ in fitted) > 1e-6 or set_at[0] == set_at[1]:
        words = "the two traces do not tell the sign: both must show fringes, at different settings"
        return _with(found, found.estimates, [*doubts, Doubt(Outcome.SUBOPTIMAL, words)])
    fringes = [f["fringe_frequency"] for f, _, _ in fitted]
    detuning, doubt = _signed(fringes, set_at)
    if doubt:
        doubts.append(doubt)
    times = _both([f["t2_star"] for f, _, _ in fitted], logarithmic=True)
    return _with(found, (detuning, times, *fringes[:1]), doubts)


def _signed(fringes: list[Estimate], set_at: list[float]) -> tuple[Estimate, Doubt | None]:
    """Fringes run at |detuning + artificial detuning|: which signs agree on one detuning?"""
    errors = [f.half / 1.96 for f in fringes]
    best: list[tuple[float, list[Estimate]]] = []
    for signs in itertools.product((1, -1), repeat=2):
        values = [s * f.value - a for s, f, a in zip(signs, fringes, set_at, strict=True)]
        apart = abs(values[0] - values[1]) / max(math.hypot(*errors), 1e-300)
        found = [
            Estimate(name="detuning", value=v, low=v - f.half, high=v + f.half, unit="Hz")
            if f.closed
            else Estimate(name="detuning", value=v, low=None, high=None, unit="Hz")
            for v, f in zip(values, fringes, strict=True)
        ]
        best.append((apart, found))
    best.sort(key=lambda b: b[0])
    doubt = None
    if best[0][0] > _APART or not np.isfinite(sum(errors)):
        doubt = Doubt(Outcome.ANOMALOUS, "the two traces contradict each other")
    elif best[1][0] < 2 * _APART:
        doubt = Doubt(Outcome.SUBOPTIMAL, "the two traces leave the detuning's sign open")
    return _both(best[0][1]), doubt


def _both(two: list[Estimate], logarithmic: bool = False) -> Estimate:
    """The mean of two estimates of the same, by the inverse squares of their widths."""
    closed = [e for e in two if e.closed]
    if len(closed) < 2:
        return closed[0] if closed else two[0]
    ends = np.array([[e.low, e.value, e.high] for e in closed], dtype=np.float64)
    if logarithmic:
        ends = np.log(ends)
    weight = (ends[:, 2] - ends[:, 0]) ** -2.0
    weight /= weight.sum()
    value = float(weight @ ends[:, 1])
    low = value - float(np.sqrt(weight**2 @ (ends[:, 1] - ends[:, 0]) ** 2))
    high = value + float(np.sqrt(weight**2 @ (ends[:, 2] - ends[:, 1]) ** 2))
    low, value, high = np.exp([low, value, high]) if logarithmic else (low, value, high)
    update = {"value": float(value), "low": float(low), "high": float(high)}
    return closed[0].model_copy(update=update)


def _damped(
    request: Request, trace: Trace, decay: str, limited: bool = False
) -> tuple[Found, Curve, float]:
    scaled = scale(trace)
    curve = fit(scaled.points, families.damped())
    checks, doubts = common(curve, scaled)
    doubts += _frequency(curve, trace, scaled.span)
    symbol = request.experiment.axis.unit if request.experiment.axis else "s"
    seconds = unit(symbol).factor
    fringe = estimate("fringe_frequency", curve.profile[0], "Hz", 1 / (scaled.span * seconds))
    time = estimate(decay, mapped(curve.profile[1], np.exp), symbol, scaled.span)
    if limited:
        doubts += long_or_vague(time, scaled.span, float(np.min(np.diff(trace.x))))
    found = Found(
        "a + exp(-t/T) (b cos 2 pi f t + c sin 2 pi f t)",
        curve.signal,
        (fringe, time),
        tuple(checks),
        tuple(doubts),
        curve.sigma * scaled.height,
        len(curve.points.x),
        int(np.sum(~curve.kept)),
    )
    return found, curve, scaled.span


def long_or_vague(time: Estimate, span: float, step: float) -> list[Doubt]:
    """A decay time is known only where the sweep holds enough of the decay."""
    if time.high is None or time.value > _LONG * span:
        return [Doubt(Outcome.SUBOPTIMAL, f"{time.name} is far beyond the sweep: lengthen it")]
    if time.low is None or time.value < 1.5 * step:
        return [Doubt(Outcome.ANOMALOUS, f"{time.name} is shorter than the sweep resolves")]
    if time.half > _VAGUE * time.value:
        return [Doubt(Outcome.SUBOPTIMAL, f"{time.name} is too vague: average longer")]
    return []


def _frequency(curve: Curve, trace: Trace, span: float) -> list[Doubt]:
    """Is the period within what the sweep can show?"""
    most = families.nyquist(curve.points.x)
    f: Interval = curve.profile[0]
    shown = f.value * float(np.ptp(curve.points.x))
    if shown < LEAST_PERIODS or not f.closed:
        return [Doubt(Outcome.SUBOPTIMAL, "the period is longer than the sweep: lengthen it")]
    if f.value > MOST_NYQUIST * most:
        return [Doubt(Outcome.SUBOPTIMAL, "the period is too short for the steps: aliasing")]
    if f.high - f.low > _VAGUE * f.value:
        return [Doubt(Outcome.SUBOPTIMAL, "the period is too vague: average longer")]
    return []


def _folded(curve: Curve, trace: Trace, span: float, expected: float) -> list[Doubt]:
    """Would a frequency that folds onto the fitted one be nearer to the one expected (per x)?"""
    x = np.array(trace.x)
    if not families.uniform(x):
        return []
    rate = 2 * families.nyquist(x)
    f = float(curve.profile[0].value) / span
    folds = [abs(k * rate + s * f) for k in (1, 2, 3) for s in (1, -1)]
    if min(abs(a - expected) for a in folds) < abs(f - expected):
        return [Doubt(Outcome.SUBOPTIMAL, "a faster swing, nearer to the one expected, folds here")]
    return []


def _current(request: Request, name: str, symbol: str) -> float | None:
    """A current parameter of the target, in a unit; None where unknown or not positive."""
    known = request.current_params.get(f"{request.experiment.target}.{name}")
    value = known.within(symbol) if known else None
    return value if value and value > 0 else None


def _with(
    found: Found,
    estimates: tuple[Estimate, ...],
    doubts: list[Doubt],
    notes: tuple[str, ...] = (),
) -> Found:
    return Found(
        found.model,
        found.signal,
        estimates,
        found.checks,
        tuple(doubts),
        found.noise,
        found.points,
        found.dropped,
        notes,
    )
