"""Readout: tell two clouds of IQ points apart, and say how often that is right."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from qdec.calibration.fit.found import SURE, Doubt, Found
from qdec.calibration.fit.separable import Floats
from qdec.calibration.request import Request
from qdec.calibration.response import Check, Estimate, Outcome

_SATURATED = 0.02  # of the points at exactly one extreme value
_FOLDS = 4
_LEAST = 0.6  # an assignment fidelity below that tells nothing


def readout(request: Request) -> Found:
    """The axis and threshold that tell the preparations apart, and the assignment fidelity.

    Points are turned by ``angle`` (``I' = I·cos + Q·sin``); above ``threshold`` means 1. The
    fidelity ``1 − (P(1|0) + P(0|1))/2`` is that of shots which the axis was not found with
    (cross-validation), its interval Newcombe's for a sum of two proportions (Stat. Med. 17, 1998).
    """
    points = {p.prepared: p for p in request.observations.iq}
    clouds = [np.stack([np.array(points[s].i), np.array(points[s].q)], axis=1) for s in (0, 1)]
    symbol = points[0].unit
    n = [len(c) for c in clouds]
    middle, size = np.concatenate(clouds).mean(0), float(np.concatenate(clouds).std()) or 1.0
    clouds = [(c - middle) / size for c in clouds]
    model = "two clouds, linear discriminant"
    p = _hotelling(clouds)
    doubts: list[Doubt] = []
    stuck = max(_stuck(c[:, axis]) for c in clouds for axis in (0, 1))
    if stuck > _SATURATED:
        doubts.append(
            Doubt(Outcome.APPARATUS, "many shots lie at one extreme value: readout is saturated")
        )
    if p >= SURE:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the clouds hardly differ"))
    angle, threshold = _discriminant(clouds)
    wrong = np.zeros(2)
    for fold in range(_FOLDS):
        rest = [c[np.arange(len(c)) % _FOLDS != fold] for c in clouds]
        turned, level = _discriminant(rest)
        for state in (0, 1):
            held = _along(clouds[state][fold::_FOLDS], turned)
            wrong[state] += np.sum((held > level) != bool(state))
    errors = [_wilson(w, m) for w, m in zip(wrong, n, strict=True)]
    value = 1 - (errors[0][0] + errors[1][0]) / 2
    down = math.hypot(*(e[2] - e[0] for e in errors)) / 2
    up = math.hypot(*(e[0] - e[1] for e in errors)) / 2
    low, high = max(0.0, value - down), min(1.0, value + up)
    if value < _LEAST:
        doubts.append(Doubt(Outcome.SUBOPTIMAL, "the clouds overlap too much to tell them apart"))
    fidelity = Estimate(name="assignment_fidelity", value=value, low=low, high=high, unit="1")
    offset = float(middle @ [math.cos(angle), math.sin(angle)])
    estimates = (
        fidelity,
        Estimate(name="angle", value=angle, low=None, high=None, unit="rad"),
        Estimate(
            name="threshold", value=threshold * size + offset, low=None, high=None, unit=symbol
        ),
        *(
            Estimate(name=name, value=e[0], low=e[1], high=e[2], unit="1")
            for name, e in zip(("error_0", "error_1"), errors, strict=True)
        ),
    )
    checks = (
        Check(name="signal", passed=p < SURE, value=p),
        Check(name="saturation", passed=stuck <= _SATURATED, value=stuck),
    )
    noise = float(np.mean([_along(c, angle).std() for c in clouds])) * size
    return Found(model, p, estimates, checks, tuple(doubts), noise, sum(n), 0)


def _along(cloud: Floats, angle: float) -> Floats:
    return np.asarray(cloud @ np.array([math.cos(angle), math.sin(angle)]))


def _hotelling(clouds: list[Floats]) -> float:
    """Hotelling's test that both clouds have one mean."""
    n0, n1 = (len(c) for c in clouds)
    apart = clouds[1].mean(0) - clouds[0].mean(0)
    pooled = sum((len(c) - 1) * np.cov(c.T) for c in clouds) / (n0 + n1 - 2)
    t2 = n0 * n1 / (n0 + n1) * apart @ np.linalg.pinv(pooled) @ apart
    left = n0 + n1 - 3
    return float(stats.f.sf(t2 * left / (2 * (n0 + n1 - 2)), 2, left))


def _discriminant(clouds: list[Floats]) -> tuple[float, float]:
    """Fisher's axis, and the threshold on it with the fewest errors of both kinds.

    Clouds have tails (a qubit that decays while it is read), so their medians and the spread
    around them set the axis, and counts, smoothed, the threshold.
    """
    apart = np.median(clouds[1], axis=0) - np.median(clouds[0], axis=0)
    pooled = sum(np.cov(c.T) for c in clouds) / 2
    axis = np.linalg.pinv(pooled) @ apart
    angle = math.atan2(axis[1], axis[0])
    along = [np.sort(_along(c, angle)) for c in clouds]
    low, high = (float(np.median(a)) for a in along)
    if not low < high:
        return angle, (low + high) / 2
    levels = np.linspace(low, high, 101)
    missed = 1 - np.searchsorted(along[0], levels) / len(along[0])
    missed += np.searchsorted(along[1], levels) / len(along[1])
    kernel = np.exp(-0.5 * (np.arange(-15, 16) / 6) ** 2)
    smooth = np.convolve(missed, kernel / kernel.sum(), mode="valid")
    return angle, float(levels[15 + int(np.argmin(smooth))])


def _stuck(values: Floats) -> float:
    """Share of the values at exactly the largest or smallest one."""
    return float(max(np.mean(values == values.max()), np.mean(values == values.min())))


def _wilson(wrong: float, n: int) -> tuple[float, float, float]:
    """A proportion and Wilson's 95 % interval."""
    z = 1.959964
    p = wrong / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return p, min(p, max(0.0, middle - reach)), max(p, min(1.0, middle + reach))
