"""What a fit hands to the verdict: numbers, tests, and doubts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from qdec.calibration.fit.curve import Curve, Interval, binomial
from qdec.calibration.fit.separable import Floats, Points
from qdec.calibration.request import Trace
from qdec.calibration.response import Check, Estimate, Outcome

# Numbers are relied on only where noise is so improbable: a fit that latched onto noise looks good.
SURE = 1e-6
_ODD = 1e-4  # p-value of a residual test that is no accident
_SATURATED = 0.15  # of the points at exactly the largest or smallest value


@dataclass(frozen=True)
class Doubt:
    """Why the numbers must not be relied on, and what that says about the device."""

    outcome: Outcome
    words: str


@dataclass(frozen=True)
class Found:
    """The result of one kind of fit.

    Attributes:
        model: the curve, in words.
        signal: p-value of the null curve, corrected for the search.
    """

    model: str
    signal: float
    estimates: tuple[Estimate, ...] = ()
    checks: tuple[Check, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    noise: float = 0.0
    points: int = 0
    dropped: int = 0
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Estimate:
        """An estimate by its name."""
        return next(e for e in self.estimates if e.name == name)

    @property
    def names(self) -> set[str]:
        """Of the estimates."""
        return {e.name for e in self.estimates}


@dataclass(frozen=True)
class Scaled:
    """A trace in coordinates of order one: x = origin + span·u, y = base + height·v."""

    points: Points
    origin: float
    span: float
    base: float
    height: float
    saturated: bool


def scale(trace: Trace, *, origin: float | None = None, centred: bool = False) -> Scaled:
    """Scale a trace; `origin` stays put where the curve's phase is known there."""
    x, y = np.array(trace.x), np.array(trace.y)
    start = (x[0] + (x[-1] - x[0]) / 2 if centred else x[0]) if origin is None else origin
    span = float(x[-1] - x[0]) if origin is None else float(np.max(np.abs(x - origin)))
    shots = counted(trace)
    base, height = (0.0, 1.0) if shots is not None else (float(y.mean()), float(y.std()) or 1.0)
    stuck = max(int(np.sum(y == y.max())), int(np.sum(y == y.min())))
    saturated = shots is None and stuck >= max(4, _SATURATED * len(y))
    points = Points.of((x - start) / span, (y - base) / height, shots=shots)
    return Scaled(points, float(start), span, base, height, saturated)


def join(one: Trace, other: Trace, *, centred: bool = False) -> Scaled:
    """Scale two traces alike, as groups 0 and 1."""
    parts = [np.array(t.x) for t in (one, other)]
    group = np.repeat([0, 1], [len(p) for p in parts])
    x, y = np.concatenate(parts), np.array([*one.y, *other.y])
    start = float(x.min() + x.max()) / 2 if centred else 0.0
    span = float(np.ptp(x)) if centred else 1.0
    both = [counted(one), counted(other)]
    shots = (
        None if any(s is None for s in both) else np.concatenate([s for s in both if s is not None])
    )
    base, height = (0.0, 1.0) if shots is not None else (float(y.mean()), float(y.std()) or 1.0)
    saturated = any(scale(t).saturated for t in (one, other))
    points = Points.of((x - start) / span, (y - base) / height, group, shots)
    return Scaled(points, start, span, base, height, saturated)


def counted(trace: Trace) -> Floats | None:
    """``(n,)`` shots of each point, where the values are populations counted in shots."""
    y = np.array(trace.y)
    if trace.shots is None or trace.y_unit != "1" or y.min() < 0 or y.max() > 1:
        return None
    return np.full(len(y), float(trace.shots))


def estimate(name: str, interval: Interval, symbol: str, factor: float = 1.0) -> Estimate:
    """An interval in scaled coordinates as an estimate in a unit."""
    ends = sorted((interval.low * factor, interval.high * factor))
    low, high = (float(e) if np.isfinite(e) and abs(e) < 1e18 else None for e in ends)
    value = float(np.clip(interval.value * factor, -1e18, 1e18))
    return Estimate(name=name, value=value, low=low, high=high, unit=symbol)


def mapped(interval: Interval, how: np.ufunc | None = None, *, inverse: bool = False) -> Interval:
    """A monotone function of an interval: exp, or one over."""
    with np.errstate(over="ignore"):
        ends = np.array([interval.value, interval.low, interval.high])
        if how is not None:
            ends = how(ends)
    if inverse:
        ends = np.array([1 / e if e > 0 and np.isfinite(e) else np.inf for e in ends])
        if not np.isfinite(interval.high):
            ends[2] = -np.inf
    return Interval(float(ends[0]), float(min(ends[1:])), float(max(ends[1:])))


def common(curve: Curve, scaled: Scaled, lines: bool = False) -> tuple[list[Check], list[Doubt]]:
    """The tests that every curve has to pass."""
    checks, doubts = [], []

    def test(
        name: str, passed: bool, value: float, detail: str, outcome: Outcome = Outcome.ANOMALOUS
    ) -> None:
        checks.append(Check(name=name, passed=passed, value=value, detail=detail))
        if not passed:
            doubts.append(Doubt(outcome, detail))

    p = curve.signal
    test("signal", p < SURE, p, "the signal hardly stands out of the noise", Outcome.SUBOPTIMAL)
    z = curve.residual / (np.std(curve.residual) + 1e-300)
    p = _tone(z)
    test("residual_tone", p > _ODD, p, "the residuals swing: there is a second component")
    p = float(stats.norm.sf(np.mean(z[1:] * z[:-1]) * np.sqrt(len(z))))
    test("residual_runs", p > _ODD, p, "neighbouring residuals agree: the curve does not fit")
    dropped = int(np.sum(~curve.kept))
    test(
        "outliers",
        dropped <= max(1, 0.1 * len(curve.kept)),
        dropped,
        f"{dropped} points lie far off the curve",
        Outcome.APPARATUS,
    )
    test(
        "rivals",
        not curve.rivals,
        len(curve.rivals),
        "another solution fits as well",
        Outcome.SUBOPTIMAL,
    )
    test(
        "saturation",
        not scaled.saturated,
        float(scaled.saturated),
        "many points have exactly the largest or smallest value: the readout is saturated",
        Outcome.APPARATUS,
    )
    if curve.points.shots is not None:
        ratio, p = _excess(curve, curve.points.shots)
        test(
            "shot_noise",
            ratio < 2 or p > 1e-6,
            ratio,
            f"the noise's variance is {ratio:.1f} times that of the shots",
            Outcome.APPARATUS,
        )
    if lines:
        p = _second_line(curve)
        test("second_line", p > _ODD, p, "there is a second line in the span")
    return checks, doubts


def _tone(z: Floats) -> float:
    """Fisher's test of the largest periodogram ordinate of the residuals, in their order."""
    power = np.abs(np.fft.rfft(z - z.mean()))[1:] ** 2
    if len(z) % 2 == 0:
        power = power[:-1]
    share = float(power.max() / (power.sum() + 1e-300))
    return float(min(1.0, len(power) * (1 - share) ** (len(power) - 1)))


def _excess(curve: Curve, shots: Floats) -> tuple[float, float]:
    """Variance of the residuals over that of the shots, and its p-value."""
    fitted = curve.family.columns(curve.points, curve.theta[None])[0] @ curve.c
    total = float(np.sum((curve.points.y - fitted) ** 2 / binomial(fitted, shots)))
    return total / curve.dof, float(stats.chi2.sf(total, curve.dof))


def _second_line(curve: Curve) -> float:
    """The largest F test of one more Lorentzian anywhere in the residuals, corrected for places."""
    x, r = curve.points.x, curve.residual
    n, best = len(x), 1.0
    weight = curve.points.weight
    q, _ = np.linalg.qr(curve.family.columns(curve.points, curve.theta[None])[0] * weight[:, None])
    for width in np.exp(curve.theta[1]) * np.array([0.4, 1.0, 2.0]):
        peak = weight / (1 + ((x - x[:, None]) / width) ** 2)
        peak = peak - (peak @ q) @ q.T
        norm = np.einsum("ij,ij->i", peak, peak)
        good = norm > 0.05 * n * width
        if not good.any():
            continue
        gain = (peak[good] @ r) ** 2 / norm[good]
        share = float(np.clip(gain.max() / (r @ r + 1e-300), 0, 1 - 1e-12))
        left = max(1, curve.dof - 3)
        f = share / (1 - share) * left
        best = min(best, float(stats.f.sf(f, 1, left)))
    return min(1.0, best * 3 * n)
