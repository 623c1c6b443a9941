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
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Points:
    """What is fitted, in coordinates of order one.

    Attributes:
        x: ``(n,)`` swept value, scaled by the caller.
        y: ``(n,)`` observed.
        weight: ``(n,)`` one over the standard deviation, up to a common factor.
        group: ``(n,)`` which trace each point is of, for kinds that need several.
    """

    x: Floats
    y: Floats
    weight: Floats
    group: NDArray[np.intp]

    @classmethod
    def of(cls, x: Floats, y: Floats, group: NDArray[np.intp] | None = None) -> Points:
        """All points alike."""
        none = np.zeros(len(x), dtype=np.intp)
        return cls(x, y, np.ones(len(x)), none if group is None else group)

    def keep(self, which: Flags) -> Points:
        """Some of the points."""
        return Points(self.x[which], self.y[which], self.weight[which], self.group[which])

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


def project(points: Points, columns: Floats) -> Projected:
    """Solve the linear part for ``(B, n, k)`` columns."""
    a = columns * points.weight[:, None]
    y = points.y * points.weight
    norm = np.sqrt(np.einsum("bnk,bnk->bk", a, a)) + 1e-300
    a = a / norm[:, None, :]
    at = a.transpose(0, 2, 1)
    gram = at @ a
    gram += _RIDGE * np.eye(a.shape[2])
    right = at @ y
    c = np.linalg.solve(gram, right[..., None])[..., 0]
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


def descend(
    points: Points, family: Family, theta: Floats, free: Flags | None = None, turns: int = _TURNS
) -> tuple[Floats, Projected]:
    """Levenberg and Marquardt on the projected residual, for ``(B, q)`` starts at once.

    Args:
        free: ``(B, q)``; coordinates that are not free stay as they are (for profiles).
    """
    low, high = family.box(points)
    theta = np.clip(theta, low, high) if free is None else theta.copy()
    free = np.ones(theta.shape, dtype=np.bool_) if free is None else free
    count, q = theta.shape
    here = project(points, family.columns(points, theta))
    damping = np.full(count, 1e-3)
    eye = np.eye(q)
    for _ in range(turns):
        slopes = np.empty((count, len(points.x), q))
        for j in range(q):
            moved = theta.copy()
            moved[:, j] += _STEP
            there = project(points, family.columns(points, moved))
            slopes[:, :, j] = (there.residual - here.residual) / _STEP
        slopes *= free[:, None, :]
        st = slopes.transpose(0, 2, 1)
        hess = st @ slopes
        grad = (st @ here.residual[..., None])[..., 0]
        diagonal = np.einsum("bii->bi", hess) * damping[:, None] + 1e-12 + ~free
        step = -np.linalg.solve(hess + diagonal[:, :, None] * eye, grad[..., None])[..., 0]
        tried = np.where(free, np.clip(theta + step, low, high), theta)
        there = project(points, family.columns(points, tried))
        better = there.rss < here.rss
        gain = np.where(better, 1 - there.rss / (here.rss + 1e-300), 0.0)
        theta = np.where(better[:, None], tried, theta)
        here = Projected(
            np.where(better[:, None], there.c, here.c),
            np.where(better[:, None], there.residual, here.residual),
            np.where(better, there.rss, here.rss),
        )
        damping = np.clip(np.where(better, damping / 8, damping * 6), 1e-9, 1e6)
        if not np.any(gain > 1e-9) and not np.any(~better & (damping < 1e2)):
            break
    return theta, here


def covariance(points: Points, family: Family, theta: Floats, c: Floats) -> Floats:
    """``(k+q, k+q)`` inverse of JᵀJ in (c, θ): times the noise's variance, the covariance."""
    base = family.columns(points, theta[None])[0]
    parts = [base]
    for j in range(len(theta)):
        moved = np.repeat(theta[None], 2, axis=0)
        moved[0, j] -= _STEP
        moved[1, j] += _STEP
        both = family.columns(points, moved) @ c
        parts.append(((both[1] - both[0]) / (2 * _STEP))[:, None])
    jacobian = np.concatenate(parts, axis=1) * points.weight[:, None]
    norm = np.sqrt((jacobian**2).sum(0)) + 1e-300
    jacobian /= norm
    inverse = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-13, hermitian=True)
    return np.asarray(inverse / np.outer(norm, norm))
