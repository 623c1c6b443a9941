"""The own family of networks, against a forward pass written for this test alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from qdec.codes import Code
from qdec.errors import ModelError
from qdec.neural.engine import compile_network
from qdec.neural.folded import Architecture, static_planes
from qdec.neural.grid import ROTATED, Lattice, WindowGrid
from qdec.neural.network import Network, shapes
from qdec.windows.cut import cut, merge_parallel
from qdec.windows.geometry import Window
from qdec_tools.circuits import memory

ARCH = Architecture(ROTATED, width=12, inner=8, blocks=2)
Floats = NDArray[np.float32]


def random_network(seed: int = 0, arch: Architecture = ARCH) -> Network:
    rng = np.random.default_rng(seed)
    return Network(
        arch,
        {
            name: (0.3 * rng.standard_normal(shape)).astype(np.float32)
            for name, shape in shapes(arch).items()
        },
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


def forward(network: Network, events: Floats, static: Floats) -> NDArray[np.float64]:
    w = network.weights

    def layer(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return convolve(x, w[f"{name}.weight"]) + w[f"{name}.bias"][:, None, None, None]

    x = layer("events", events.astype(np.float64))
    x = x + convolve(static[None].astype(np.float64), w["static.weight"])
    for k in range(network.arch.blocks):
        inner = layer(f"squeeze.{k}", np.maximum(x, 0))
        inner = layer(f"look.{k}", np.maximum(inner, 0))
        x = x + layer(f"widen.{k}", np.maximum(inner, 0))
    return layer("head", np.maximum(x, 0))


def test_the_onnx_model_computes_what_the_network_is() -> None:
    code = Code.from_circuit(memory(4, 3, 0.01))
    length = code.spacetime.rounds
    grid = grid_of(code, Window(0, length, length, length))
    network = random_network()
    events = np.random.default_rng(1).integers(0, 2, (3, 4, *grid.shape)).astype(np.float32)
    wanted = forward(network, events, static_planes(grid, ARCH.channels))
    found = compile_network(network.onnx(grid), precision="fp32")(events)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_window_with_a_halo_says_what_the_whole_shot_does() -> None:
    code = Code.from_circuit(memory(3, 19, 0.01))
    length = code.spacetime.rounds
    network = random_network(3)
    commit = 5
    whole = grid_of(code, Window(0, length, length, length))
    # One round more than the halo: what the window's end cuts off changes the last static plane.
    first = grid_of(code, Window(0, commit + ARCH.halo + 1, commit, length))
    events = np.random.default_rng(2).integers(0, 2, (8, 4, *whole.shape)).astype(np.float32)
    everything = compile_network(network.onnx(whole), precision="fp32")(events)
    window = compile_network(network.onnx(first), precision="fp32")(
        np.ascontiguousarray(events[:, :, : first.shape[0]])
    )
    np.testing.assert_allclose(
        window[:, :, :commit], everything[:, :, :commit], rtol=1e-4, atol=1e-4
    )
    # And the halo is no longer than it has to be.
    last = first.shape[0] - 1
    assert np.abs(window[:, :, last] - everything[:, :, last]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("head.bias", None, "lacks"),
        ("extra", np.zeros(3, dtype=np.float32), "no use for"),
        ("head.bias", np.zeros(3, dtype=np.float32), "not float32"),
        ("head.bias", np.zeros(28, dtype=np.float64), "not float32"),
        ("head.bias", np.full(28, np.nan, dtype=np.float32), "finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(name: str, value: Floats | None, words: str) -> None:
    weights = dict(random_network().weights)
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    with pytest.raises(ModelError, match=words):
        Network(ARCH, weights)


def test_multiply_accumulates_are_those_of_the_weights() -> None:
    kernels = [shape for name, shape in shapes(ARCH).items() if name.endswith(".weight")]
    static = shapes(ARCH)["static.weight"]
    assert ARCH.macs_per_cell == sum(map(np.prod, kernels)) - np.prod(static)


def test_the_accuracy_network_takes_a_quarter_of_fast() -> None:
    # Ising's Fast: 912,384 multiply-accumulates for each of the d * d * rounds voxels.
    from qdec_tools.training.command import find_recipe
    from qdec_tools.training.recipe import read_recipe

    for name in ("accuracy", "speed"):
        arch = read_recipe(find_recipe(name)).network.architecture
        for d in (5, 9, 13):
            ours = arch.macs_per_cell * (d + 1) * ((d + 1) // 2) ** 2
            assert ours < 912_384 * d**3 / 4
