"""The own family of networks, against a forward pass written for this test alone."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.folded import ARCH, Floats, forward, grid_of, random_network
from qdec.codes import Code
from qdec.errors import ModelError
from qdec.neural.engine import compile_network
from qdec.neural.folded import static_planes
from qdec.neural.network import Network, shapes
from qdec.windows.geometry import Window
from qdec_tools.circuits import memory


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
