"""Separable least squares: curves that are linear in all but a few of their parameters.

A trace is ``y = Σ_k c_k · column_k(x; θ) + noise``. For given θ the best c is a linear problem, so
only θ (one or two coordinates here) has to be searched: *variable projection* (Golub and Pereyra,
SIAM J. Numer. Anal. 10, 1973). That makes an exhaustive grid of starts affordable, which is what
finds the right one of many minima, and leaves no amplitude or offset to guess. Everything is
evaluated for a batch of θ at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
# Relative to columns of norm 1: keeps a degenerate design (a period far too long) solvable.
_RIDGE = 1e-12
_STEP = 1e-6
_TURNS = 25
_SHORT = 1e2
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Points:
    """What is fitted, in coordinates of order one.

    Attributes:
        x: ``(n,)`` swept value, scaled by the caller.
        y: ``(n,)`` observed.
        weight: ``(n,)`` one over the standard deviation, up to a common factor.
        group: ``(n,)`` which trace each point is of, for kinds that need several.
        shots: ``(n,)`` that each y, a population, was counted in; None where that is not known.
    """

    x: Floats
    y: Floats
    weight: Floats
    group: NDArray[np.intp]
    shots: Floats | None = None

    @classmethod
    def of(
        cls,
        x: Floats,
        y: Floats,
        group: NDArray[np.intp] | None = None,
        shots: Floats | None = None,
    ) -> Points:
        """All points of one weight."""
        none = np.zeros(len(x), dtype=np.intp)
        return cls(x, y, np.ones(len(x)), none if group is None else group, shots)

    def keep(self, which: Flags) -> Points:
        """Some of the points."""
        shots = None if self.shots is None else self.shots[which]
        return Points(self.x[which], self.y[which], self.weight[which], self.group[which], shots)

    def weighted(self, weight: Floats) -> Points:
        """The same points, other weights (scaled to a mean square of one)."""
        return replace(self, weight=weight / np.sqrt(np.mean(weight**2)))


@dataclass(frozen=True)
class Family:
    """A family of curves.

    Attributes:
        theta: names of the nonlinear coordinates.
        columns: ``(points, (B, q) θ)`` → ``(B, n, k)`` columns.
        starts: points → ``(G, q)``: fine enough that the best lies in the true minimum's basin.
        box: points → ``(q,)`` lowest and highest θ.
        null: points → ``(n, k0)`` columns of the curve without a signal.
        robust: outliers are so usual that the search must bear them.
    """

    theta: tuple[str, ...]
    columns: Callable[[Points, Floats], Floats]
    starts: Callable[[Points], Floats]
    box: Callable[[Points], tuple[Floats, Floats]]
    null: Callable[[Points], Floats]
    robust: bool = False


@dataclass(frozen=True)
class Projected:
    """Best linear coefficients for a batch of θ: ``c (B, k)``, weighted ``residual (B, n)``."""

    c: Floats
    residual: Floats
    rss: Floats


def project(points: Points, columns: Floats, weight: Floats | None = None) -> Projected:
    """Solve the linear part for ``(B, n, k)`` columns; `weight`: ``(B, n)`` instead of theirs."""
    weight = points.weight[None] if weight is None else weight
    a = columns * weight[:, :, None]
    y = points.y * weight
    norm = np.sqrt(np.einsum("bnk,bnk->bk", a, a)) + 1e-300
    a = a / norm[:, None, :]
    at = a.transpose(0, 2, 1)
    gram = at @ a
    gram += _RIDGE * np.eye(a.shape[2])
    c = np.linalg.solve(gram, at @ y[..., None])[..., 0]
    residual = y - (a @ c[..., None])[..., 0]
    return Projected(c / norm, residual, np.einsum("bn,bn->b", residual, residual))


def scan(points: Points, family: Family, starts: Floats) -> Floats:
    """``(G,)`` residual sums of squares at the starts, in blocks of bounded size."""
    k = family.columns(points, starts[:1]).shape[2]
    block = max(1, _BLOCK // (len(points.x) * k))
    parts = [
        project(points, family.columns(points, starts[i : i + block])).rss
        for i in range(0, len(starts), block)
    ]
    return np.concatenate(parts)


def scan_hardy(points: Points, family: Family, starts: Floats) -> Floats:
    """``(G,)`` sums of absolute residuals of the least absolute fits (a few reweighted turns)."""
    columns = family.columns(points, starts)
    here = project(points, columns)
    for _ in range(4):
        least = 1e-3 * float(np.std(points.y))
        off = np.abs(points.y - (columns @ here.c[..., None])[..., 0])
        here = project(points, columns, 1 / np.sqrt(np.maximum(off, least)))
    off = np.abs(points.y - (columns @ here.c[..., None])[..., 0])
    return np.asarray(off.sum(axis=1))


def descend(
    points: Points,
    family: Family,
    theta: Floats,
    free: Flags | None = None,
    turns: int = _TURNS,
    tolerance: float = 1e-8,
) -> tuple[Floats, Projected]:
    """Levenberg and Marquardt on the projected residual, for ``(B, q)`` starts at once.

    Args:
        free: ``(B, q)``; coordinates that are not free stay as they are (for profiles).
        tolerance: relative gain of a step below which a start has arrived.
    """
    low, high = family.box(points)
    theta = np.clip(theta, low, high) if free is None else theta.copy()
    free = np.ones(theta.shape, dtype=np.bool_) if free is None else free
    q = theta.shape[1]
    eye = np.eye(q)
    whole = project(points, family.columns(points, theta))
    damping = np.full(len(theta), 1e-3)
    moving = np.flatnonzero(free.any(axis=1))
    for _ in range(turns):
        if not len(moving):
            break
        at, loose, here = theta[moving], free[moving], whole.residual[moving]
        slopes = np.zeros((*here.shape, q))
        for j in np.flatnonzero(loose.any(axis=0)):
            moved = at.copy()
            moved[:, j] += _STEP
            slopes[:, :, j] = project(points, family.columns(points, moved)).residual - here
        slopes *= loose[:, None, :] / _STEP
        st = slopes.transpose(0, 2, 1)
        hess = st @ slopes
        grad = (st @ here[..., None])[..., 0]
        diagonal = np.einsum("bii->bi", hess) * damping[moving, None] + 1e-12 + ~loose
        step = -np.linalg.solve(hess + diagonal[:, :, None] * eye, grad[..., None])[..., 0]
        tried = np.where(loose, np.clip(at + step, low, high), at)
        there = project(points, family.columns(points, tried))
        before = whole.rss[moving]
        better = there.rss < before
        won = moving[better]
        theta[won] = tried[better]
        whole.c[won], whole.rss[won] = there.c[better], there.rss[better]
        whole.residual[won] = there.residual[better]
        damping[moving] = np.clip(damping[moving] * np.where(better, 0.1, 10.0), 1e-9, 1e9)
        gain = 1 - there.rss / (before + 1e-300)
        # A step that gains nothing, or that fails however short it is: this one has arrived.
        moving = moving[np.where(better, gain > tolerance, damping[moving] < _SHORT)]
    return theta, whole


def jacobian(points: Points, family: Family, theta: Floats, c: Floats) -> Floats:
    """``(n, k+q)`` weighted derivatives of the curve by (c, θ)."""
    q = len(theta)
    moved = np.repeat(theta[None], 2 * q, axis=0)
    moved[np.arange(q), np.arange(q)] -= _STEP
    moved[q + np.arange(q), np.arange(q)] += _STEP
    columns = family.columns(points, np.concatenate([theta[None], moved]))
    curves = columns[1:] @ c
    slopes = (curves[q:] - curves[:q]).T / (2 * _STEP)
    return np.concatenate([columns[0], slopes], axis=1) * points.weight[:, None]


def covariance(slopes: Floats) -> Floats:
    """``(JᵀJ)⁻¹``: times the noise's variance, the covariance of (c, θ)."""
    norm = np.sqrt((slopes**2).sum(0)) + 1e-12
    scaled = slopes / norm
    inverse = np.linalg.pinv(scaled.T @ scaled, rcond=1e-13, hermitian=True)
    return np.asarray(inverse / np.outer(norm, norm))


def leverage(slopes: Floats) -> Floats:
    """``(n,)`` how far each point pulls the curve to itself, 0 … 1."""
    return np.asarray(np.einsum("ij,jk,ik->i", slopes, covariance(slopes), slopes))
