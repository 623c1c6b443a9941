"""Small networks of the own family, and a forward pass written for tests alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qdec.codes import Code
from qdec.neural.folded import Architecture
from qdec.neural.grid import ROTATED, Lattice, WindowGrid
from qdec.neural.network import Network, shapes
from qdec.windows.cut import cut, merge_parallel
from qdec.windows.geometry import Window

ARCH = Architecture(ROTATED, width=12, inner=8, blocks=2)
Floats = NDArray[np.float32]


def random_network(
    seed: int = 0, arch: Architecture = ARCH, scales: Mapping[str, float] | None = None
) -> Network:
    rng = np.random.default_rng(seed)
    return Network(
        arch,
        {
            name: (0.3 * rng.standard_normal(shape)).astype(np.float32)
            for name, shape in shapes(arch).items()
        },
        scales or {},
    )


def grid_of(code: Code, window: Window) -> WindowGrid:
    problem = cut(code.spacetime, window)
    return Lattice(code, ROTATED).grid(window, problem, merge_parallel(problem))


def convolve(x: NDArray[np.float64], kernel: Floats) -> NDArray[np.float64]:
    """Sum over taps, output position by output position."""
    taps = kernel.shape[2]
    reach = taps // 2
    out = np.zeros((len(x), len(kernel), *x.shape[2:]))
    for t, i, j in np.ndindex(*x.shape[2:]):
        for a, b, c in np.ndindex(taps, taps, taps):
            s, k, m = t + a - reach, i + b - reach, j + c - reach
            if 0 <= s < x.shape[2] and 0 <= k < x.shape[3] and 0 <= m < x.shape[4]:
                out[:, :, t, i, j] += x[:, :, s, k, m] @ kernel[:, :, a, b, c].T
    return out


def rounded_convolve(x: NDArray[np.float64], kernel: Floats, scale: float) -> NDArray[np.float64]:
    """The same in 8 bits: whole numbers are summed, and scaled afterwards."""
    step = np.abs(kernel).max(axis=(1, 2, 3, 4)) / 127
    whole = np.rint(kernel / step[:, None, None, None, None])
    sums = convolve(np.minimum(np.rint(x / scale), 255), whole.astype(np.float32))
    return sums * scale * step[:, None, None, None]


def forward(
    network: Network, events: Floats, static: Floats, scales: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """What a network says; of layers with a scale, in 8 bits."""
    w = network.weights

    def layer(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        kernel, bias = w[f"{name}.weight"], w[f"{name}.bias"][:, None, None, None]
        if scales and name in scales:
            return rounded_convolve(x, kernel, scales[name]) + bias
        return convolve(x, kernel) + bias

    x = layer("events", events.astype(np.float64))
    x = x + convolve(static[None].astype(np.float64), w["static.weight"])
    for k in range(network.arch.blocks):
        inner = layer(f"squeeze.{k}", np.maximum(x, 0))
        inner = layer(f"look.{k}", np.maximum(inner, 0))
        x = x + layer(f"widen.{k}", np.maximum(inner, 0))
    return layer("head", np.maximum(x, 0))
