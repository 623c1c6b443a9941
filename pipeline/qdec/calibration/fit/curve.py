"""Fit one curve: is there a signal, where is the best fit, how far does it hold, what else fits?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from qdec.calibration.fit.separable import (
    Family,
    Flags,
    Floats,
    Points,
    Projected,
    covariance,
    descend,
    jacobian,
    leverage,
    project,
    scan,
    scan_hardy,
)

LEVEL = 0.95
# A signal must be so improbable in noise, with all that the search tried counted in.
SIGNAL = 2e-3
_POLISHED = 6
# Another minimum whose residuals are so little worse (in units of the noise's variance) also fits.
RIVAL = 12.0
# A residual so large, in robust standard deviations, is no noise; so many are no accident.
_OUTLIER, _MOST_OUTLIERS = 4.2, 0.12
# Distances at which profiles are taken, in standard deviations of the linear approximation.
_REACH = np.array([0.7, 1.3, 1.75, 2.1, 2.6, 3.3, 5.0, 9.0, 20.0])


@dataclass(frozen=True)
class Interval:
    """A value and where it lies with probability `LEVEL`; an open end is infinite."""

    value: float
    low: float
    high: float

    @property
    def closed(self) -> bool:
        """Do the data bound it on both sides?"""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


@dataclass(frozen=True)
class Curve:
    """A fitted curve, in the scaled coordinates of its points.

    Attributes:
        points: that were kept.
        kept: ``(n,)`` of all points, which were.
        theta, c: the best fit.
        sigma: of the noise, at weight one.
        covariance: ``(k+q, k+q)`` of (c, θ).
        profile: of each θ.
        p_local: of the F test against the null curve, at the best of all starts.
        rivals: other minima that fit about as well, as θ.
    """

    points: Points
    kept: Flags
    family: Family
    theta: Floats
    c: Floats
    sigma: float
    covariance: Floats
    profile: tuple[Interval, ...]
    p_local: float
    rivals: tuple[Floats, ...]
    residual: Floats

    @property
    def signal(self) -> float:
        """The p-value times the number of places where noise could look like the best one."""
        return min(1.0, self.p_local * len(self.kept))

    @property
    def dof(self) -> int:
        """Points that are left for the noise."""
        return len(self.points.x) - len(self.c) - len(self.theta)

    def linear(self, weights: Floats) -> Interval:
        """A linear combination of the coefficients c, by its covariance."""
        k = len(self.c)
        value = float(weights @ self.c)
        error = math.sqrt(max(0.0, float(weights @ self.covariance[:k, :k] @ weights)))
        reach = error * float(stats.t.ppf(0.5 + LEVEL / 2, self.dof))
        return Interval(value, value - reach, value + reach)


def detect(points: Points, family: Family) -> tuple[float, Floats]:
    """The F test against the null curve: its p-value at the best start, and the best minima's θ.

    Where the search must bear outliers, the test waits until they are known (p-value 0).
    """
    starts = family.starts(points)
    rss = (scan_hardy if family.robust else scan)(points, family, starts)
    order = np.argsort(rss, kind="stable")
    chosen: list[int] = []
    low, high = family.box(points)
    least = 0.02 * (high - low)
    for i in order[:400]:
        if all(np.any(np.abs(starts[i] - starts[j]) > least) for j in chosen):
            chosen.append(int(i))
        if len(chosen) == _POLISHED:
            break
    theta = starts[chosen]
    if family.robust:
        return 0.0, _hardy(points, family, theta)
    theta, at = descend(points, family, theta)
    order = np.argsort(at.rss, kind="stable")
    parameters = at.c.shape[1] + theta.shape[1]
    return _f_test(points, family, float(at.rss.min()), parameters), theta[order]


def _f_test(points: Points, family: Family, rss: float, parameters: int) -> float:
    """The p-value of the null curve, given the best residuals of the other."""
    base = family.null(points)
    null = float(project(points, base[None]).rss[0])
    more, left = parameters - base.shape[1], max(1, len(points.x) - parameters)
    f = max(0.0, (null - rss) / more) / max(rss / left, 1e-300)
    return float(stats.f.sf(f, more, left))


def fit(points: Points, family: Family) -> Curve:
    """Fit a family; weights follow from the fitted curve where y was counted in shots."""
    p_local, thetas = detect(points, family)
    theta, at = descend(points, family, thetas)
    near = at.rss <= at.rss.min() * (1 + 4 * RIVAL / len(points.x))
    theta, at = theta[near], Projected(at.c[near], at.residual[near], at.rss[near])
    kept = np.ones(len(points.x), dtype=np.bool_)
    now = points
    for _ in range(4):
        best = int(np.argmin(at.rss))
        curve = (family.columns(points, theta[best : best + 1])[0] @ at.c[best]).ravel()
        whole = (
            points
            if points.shots is None
            else points.weighted(binomial(curve, points.shots) ** -0.5)
        )
        pull = leverage(jacobian(whole, family, theta[best], at.c[best]))
        # A point that pulls the curve to itself hides how far off it is: studentised residuals.
        off = np.abs(points.y - curve) * whole.weight / np.sqrt(np.clip(1 - pull, 0.05, 1))
        scale = 1.4826 * float(np.median(off[kept]))
        keep = off <= _OUTLIER * scale * (1 + 2 / np.sqrt(len(off)))
        if keep.mean() < 1 - _MOST_OUTLIERS or scale == 0:
            keep = np.ones_like(keep)
        same = np.array_equal(keep, kept) and np.allclose(whole.keep(keep).weight, now.weight)
        kept, now = keep, whole.keep(keep)
        if same:
            break
        theta, at = descend(now, family, theta)
    order = np.argsort(at.rss, kind="stable")
    theta, c, rss = theta[order], at.c[order], at.rss[order]
    left = max(1, len(now.x) - c.shape[1] - theta.shape[1])
    variance = max(float(rss[0]) / left, 1e-300)
    if family.robust or not kept.all():
        p_local = _f_test(now, family, float(rss[0]), c.shape[1] + theta.shape[1])
    there = min(1.0, p_local * len(kept)) < SIGNAL
    spread = covariance(jacobian(now, family, theta[0], c[0])) * variance
    low, high = family.box(now)
    rivals = tuple(
        theta[i]
        for i in range(1, len(theta))
        if rss[i] - rss[0] < RIVAL * variance
        and np.any(np.abs(theta[i] - theta[0]) > 0.02 * (high - low))
    )
    return Curve(
        points=now,
        kept=kept,
        family=family,
        theta=theta[0],
        c=c[0],
        sigma=float(np.sqrt(variance)),
        covariance=spread,
        profile=_profiles(now, family, theta[0], float(rss[0]), variance, left, spread)
        if there
        else tuple(Interval(float(t), -np.inf, np.inf) for t in theta[0]),
        p_local=p_local,
        rivals=rivals,
        residual=at.residual[order[0]],
    )


def binomial(curve: Floats, shots: Floats) -> Floats:
    """Variances of populations that were counted in shots; never 0, since one more might have."""
    p = (np.clip(curve, 0, 1) * shots + 1) / (shots + 2)
    return np.asarray(p * (1 - p) / shots)


def _hardy(points: Points, family: Family, thetas: Floats) -> Floats:
    """Starts refined with Tukey's biweight, so that far-off points pull no more; best first."""
    scales, refined = [], []
    for start in thetas[:4]:
        theta, now = start[None], points
        size = np.inf
        for _ in range(6):
            theta, at = descend(now, family, theta, turns=3)
            off = np.abs(points.y - family.columns(points, theta)[0] @ at.c[0])
            size = 1.4826 * float(np.median(off)) + 1e-12
            weight = np.clip(1 - (off / (6 * size)) ** 2, 0, None)
            now = points.weighted(np.maximum(weight, 1e-6))
        scales.append(size)
        refined.append(theta[0])
    order = np.argsort(scales)
    near = [i for i in order if scales[i] < 1.5 * scales[order[0]]]
    return np.array([refined[i] for i in near])


def _profiles(
    points: Points,
    family: Family,
    theta: Floats,
    rss: float,
    variance: float,
    left: int,
    spread: Floats,
) -> tuple[Interval, ...]:
    """Likelihood-ratio intervals: where the rest, fitted anew, leaves residuals still as small.

    They follow the curvature that a covariance does not know (a decay that the window hardly
    shows), and are open where no value is too far (Bates and Watts, *Nonlinear Regression*, 6.1).
    """
    q = len(theta)
    low, high = family.box(points)
    sigma = np.sqrt(np.diag(spread)[-q:])
    sigma = np.clip(np.nan_to_num(sigma, nan=1.0, posinf=1.0), 1e-9, high - low)
    steps = np.concatenate([-_REACH[::-1], _REACH])
    batch = np.repeat(theta[None], q * len(steps), axis=0)
    free = np.ones(batch.shape, dtype=np.bool_)
    for j in range(q):
        rows = slice(j * len(steps), (j + 1) * len(steps))
        batch[rows, j] = np.clip(theta[j] + steps * sigma[j], low[j], high[j])
        cross = spread[-q:, -q + j] / max(spread[-q + j, -q + j], 1e-300)
        moved = (batch[rows, j] - theta[j])[:, None] * cross
        moved[:, j] = 0
        batch[rows] = np.clip(batch[rows] + moved, low, high)
        free[rows, j] = False
    if q > 1:
        batch, at = descend(points, family, batch, free, turns=8, tolerance=1e-5)
    else:
        at = project(points, family.columns(points, batch))
    root = np.sqrt(np.maximum(at.rss - rss, 0) / variance)
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, left))
    found = []
    half = len(_REACH)
    for j in range(q):
        rows = slice(j * len(steps), (j + 1) * len(steps))
        values, roots = batch[rows, j], root[rows]
        down = _crossing(theta[j], values[:half][::-1], roots[:half][::-1], reach, -np.inf)
        up = _crossing(theta[j], values[half:], roots[half:], reach, np.inf)
        found.append(Interval(float(theta[j]), down, up))
    return tuple(found)


def _crossing(best: float, values: Floats, roots: Floats, reach: float, beyond: float) -> float:
    """Where the root of the likelihood ratio first reaches `reach`; `beyond` if it does not."""
    values = np.concatenate([[best], values])
    roots = np.concatenate([[0.0], roots])
    above = np.flatnonzero(roots >= reach)
    if not len(above):
        return beyond
    i = int(above[0])
    share = (reach - roots[i - 1]) / (roots[i] - roots[i - 1])
    return float(values[i - 1] + share * (values[i] - values[i - 1]))
