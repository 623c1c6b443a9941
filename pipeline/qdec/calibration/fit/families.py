"""The curves of the experiments, as separable families in scaled coordinates.

Axes are scaled by their span, so that frequencies are cycles per span and times are spans.
"""

from __future__ import annotations

import numpy as np

from qdec.calibration.fit.separable import Family, Floats, Points

# A decay is told from none up to so many spans, and from a spike down to so few.
SHORTEST, LONGEST = 0.01, 40.0
LOWEST = 0.15  # cycles per span


def _ones(points: Points) -> Floats:
    return np.ones((len(points.x), 1))


def _grid(*axes: Floats) -> Floats:
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)


def nyquist(x: Floats) -> float:
    """The highest frequency that a sweep can tell from all lower ones, in cycles per unit of x.

    Of uneven axes, about: and never more than so many points could hold, however close some lie.
    """
    steps = np.diff(np.sort(x))
    return float(min(0.5 / np.median(steps), 2 * len(x) / np.ptp(x)))


def uniform(x: Floats) -> bool:
    """Are the points equally spaced, so that frequencies above `nyquist` fold onto lower ones?"""
    steps = np.diff(np.sort(x))
    return bool(np.ptp(steps) <= 1e-3 * np.mean(steps))


def _frequencies(points: Points) -> Floats:
    most = nyquist(points.x)
    return np.arange(LOWEST, most, 0.25)


def rabi_amplitude() -> Family:
    """``a + b·cos(2πfx)``: no rotation without a pulse fixes the phase. θ = f."""

    def columns(points: Points, theta: Floats) -> Floats:
        wave = np.cos(2 * np.pi * theta[:, :1] * points.x)
        return np.stack([np.ones_like(wave), wave], axis=2)

    def box(points: Points) -> tuple[Floats, Floats]:
        return np.array([LOWEST]), np.array([nyquist(points.x)])

    return Family(("f",), columns, lambda p: _frequencies(p)[:, None], box, _ones)


def damped() -> Family:
    """``a + e^(−x/τ)(b·cos 2πfx + c·sin 2πfx)``. θ = f, ln τ."""

    def columns(points: Points, theta: Floats) -> Floats:
        angle = 2 * np.pi * theta[:, :1] * points.x
        fall = np.exp(-points.x * np.exp(-theta[:, 1:2]))
        return np.stack([np.ones_like(fall), fall * np.cos(angle), fall * np.sin(angle)], axis=2)

    def starts(points: Points) -> Floats:
        return _grid(_frequencies(points), np.log([0.1, 0.35, 2.0]))

    def box(points: Points) -> tuple[Floats, Floats]:
        low = np.array([LOWEST, np.log(SHORTEST)])
        return low, np.array([nyquist(points.x), np.log(LONGEST)])

    return Family(("f", "ln tau"), columns, starts, box, _ones)


def decay() -> Family:
    """``a + b·e^(−x/τ)``. θ = ln τ."""

    def columns(points: Points, theta: Floats) -> Floats:
        fall = np.exp(-points.x * np.exp(-theta[:, :1]))
        return np.stack([np.ones_like(fall), fall], axis=2)

    edges = np.log([SHORTEST, LONGEST])
    return Family(
        ("ln tau",),
        columns,
        lambda p: np.linspace(edges[0], edges[1], 30)[:, None],
        lambda p: (edges[:1], edges[1:]),
        _ones,
    )


def line(asymmetric: bool) -> Family:
    """A Lorentzian line on a background. θ = centre, ln half width (spans).

    Symmetric: ``a + b/(1+δ²)`` with ``δ = (x−x0)/w``. Asymmetric, on a sloping background:
    ``a + s·x + (b + c·δ)/(1+δ²)``, which is exactly a resonator's \\|S21\\|², however mismatched
    (Khalil et al., J. Appl. Phys. 111, 054510, 2012, squared).
    """

    def columns(points: Points, theta: Floats) -> Floats:
        delta = (points.x - theta[:, :1]) * np.exp(-theta[:, 1:2])
        peak = 1 / (1 + delta**2)
        one = np.ones_like(peak)
        if not asymmetric:
            return np.stack([one, peak], axis=2)
        return np.stack([one, one * points.x, peak, delta * peak], axis=2)

    def widths(points: Points) -> tuple[float, float]:
        return np.log(0.35 / len(points.x)), np.log(0.2 if asymmetric else 0.4)

    def starts(points: Points) -> Floats:
        narrow, wide = widths(points)
        centres = np.linspace(-0.55, 0.55, round(1.1 * len(points.x)))
        return _grid(centres, np.linspace(narrow + 0.3, wide, 6))

    def box(points: Points) -> tuple[Floats, Floats]:
        narrow, wide = widths(points)
        return np.array([-0.6, narrow]), np.array([0.6, wide + 0.5])

    def null(points: Points) -> Floats:
        one = np.ones_like(points.x)
        return np.stack([one, points.x] if asymmetric else [one], axis=1)

    return Family(("x0", "ln w"), columns, starts, box, null)


def crossing() -> Family:
    """Two error signals, groups 0 and 1, that agree at x0. θ = x0, k².

    ``a + b_g·sin(k(x−x0))/k``: turning errors add up over the pulses of a sequence, with opposite
    signs for the two orders.
    """

    def columns(points: Points, theta: Floats) -> Floats:
        # In k², of which it is a smooth function through 0 (a straight line) and below: there the
        # data often cannot tell, and a boundary would spoil the intervals.
        k = np.sqrt(theta[:, 1:2] + 1e-9 + 0j)
        swing = (np.sin(k * (points.x - theta[:, :1])) / k).real
        second = points.group.astype(np.float64)
        return np.stack([np.ones_like(swing), swing * (1 - second), swing * second], axis=2)

    def starts(points: Points) -> Floats:
        return _grid(np.linspace(-0.7, 0.7, 29), np.array([0.0, 2.0, 9.0, 20.0, 36.0, 64.0]))

    edges = np.array([-0.8, -9.0]), np.array([0.8, 81.0])
    return Family(("x0", "k2"), columns, starts, lambda p: edges, _ones)


def phases() -> Family:
    """Two fringes of known period 2π, groups 0 and 1: θ = phase of the first, difference.

    ``a_g + b_g·cos(x − φ − g·Δ)``, with b_g > 0 left to the caller (φ is only known up to π).
    """

    def columns(points: Points, theta: Floats) -> Floats:
        second = points.group.astype(np.float64)
        wave = np.cos(points.x - theta[:, :1] - second * theta[:, 1:2])
        one = np.ones_like(wave)
        return np.stack(
            [one * (1 - second), one * second, wave * (1 - second), wave * second], axis=2
        )

    def starts(points: Points) -> Floats:
        found = []
        for g in (0, 1):
            of = points.group == g
            x, y = points.x[of], points.y[of]
            a = np.stack([np.ones_like(x), np.cos(x), np.sin(x)], axis=1)
            c = np.linalg.lstsq(a, y, rcond=None)[0]
            found.append(np.arctan2(c[2], c[1]))
        return np.array([[found[0], np.angle(np.exp(1j * (found[1] - found[0])))]])

    def null(points: Points) -> Floats:
        second = points.group.astype(np.float64)
        return np.stack([1 - second, second], axis=1)

    edges = np.array([-7.0, -7.0]), np.array([7.0, 7.0])
    return Family(("phase", "difference"), columns, starts, lambda p: edges, null)


def arch() -> Family:
    """A symmetric transmon's frequency against flux. θ = sweet spot, ln period.

    ``f = f_max − B·(1 − √|cos π(x−x0)/P|)`` with ``B = f_max + E_C/h`` (Koch et al., Phys. Rev. A
    76, 042319, 2007). Points read off another line are usual: the search bears them.
    """

    def columns(points: Points, theta: Floats) -> Floats:
        angle = np.pi * (points.x - theta[:, :1]) * np.exp(-theta[:, 1:2])
        dip = 1 - np.sqrt(np.abs(np.cos(angle)))
        return np.stack([np.ones_like(dip), dip], axis=2)

    def starts(points: Points) -> Floats:
        return _grid(np.linspace(-0.7, 0.7, 36), np.log(np.geomspace(0.6, 6.0, 12)))

    edges = np.array([-0.8, np.log(0.5)]), np.array([0.8, np.log(8.0)])
    return Family(("x0", "ln P"), columns, starts, lambda p: edges, _ones, robust=True)
