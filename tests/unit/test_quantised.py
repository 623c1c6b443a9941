"""Networks in 8 bits, against whole numbers summed in NumPy; scales that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from helpers.folded import ARCH, forward, grid_of, random_network
from helpers.networks import convolutions, reference
from qdec.codes import Code
from qdec.errors import EngineError, ModelError
from qdec.match import Tier
from qdec.match.compile import compile_window
from qdec.neural import openvino_engine
from qdec.neural.engine import compile_network, precisions
from qdec.neural.folded import static_planes
from qdec.neural.folded_model import FoldedModel, as_metadata, from_stored
from qdec.neural.network import Network
from qdec.neural.openvino_engine import OpenVinoNetwork, supported_precisions
from qdec.neural.quantised import as_tensors, quantisable, quantise_kernel, scales_of
from qdec.neural.store import load_model
from qdec.neural.tensor_file import tensors_sha256, write_tensors
from qdec.windows import WHOLE, Window
from qdec_tools.circuits import memory

WINDOW = Window(0, 4, 4, 4)
# The first is too small for some of what its layer is given, so that clipping shows.
SCALES = {"look.0": 0.01, "look.1": 0.05}
has_int8 = pytest.mark.skipif(
    "int8" not in precisions(), reason="this processor sums products of 8 bits in 16"
)


def code() -> Code:
    return Code.from_circuit(memory(4, 3, 0.01))


def events(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, (3, 4, *shape)).astype(np.float32)


@pytest.mark.parametrize("scales", [SCALES, {"look.1": 0.05}], ids=["both", "one layer"])
def test_the_onnx_model_computes_what_whole_numbers_do(scales: dict[str, float]) -> None:
    grid = grid_of(code(), WINDOW)
    network = random_network(scales=scales)
    x = events(grid.shape)
    static = static_planes(grid, ARCH.channels)
    wanted = forward(network, x, static, scales)
    change = np.abs(wanted - forward(network, x, static)).mean()
    proto = onnx.load_model_from_string(network.onnx(grid, quantised=True))
    proto.opset_import[0].version = 19  # from which on the evaluator has what it has said since 13
    found = reference(proto.SerializeToString(), x)
    # A number in the middle of two steps may be rounded either way.
    assert np.abs(found - wanted).mean() < 0.02 * change
    unrounded = network.onnx(grid)
    assert unrounded == random_network().onnx(grid), "scales are for 8 bits alone"


@has_int8
def test_the_engine_computes_it_in_8_bits() -> None:
    grid = grid_of(code(), WINDOW)
    network = random_network(scales=SCALES)
    x = events(grid.shape)
    content = network.onnx(grid, quantised=True)
    wanted = forward(network, x, static_planes(grid, ARCH.channels), SCALES)
    exact = compile_network(content, precision="fp32")(x)  # of what is not quantised
    change = np.abs(wanted - forward(network, x, static_planes(grid, ARCH.channels))).mean()
    assert np.abs(exact - wanted).mean() < 0.02 * change
    compiled = FoldedModel(network).compile(grid)
    assert np.abs(compiled(x) - wanted).mean() < 0.02 * np.abs(wanted).mean()
    assert isinstance(compiled, OpenVinoNetwork)
    given_as = [given_as for _, given_as in compiled.convolutions]
    assert given_as.count("u8") == len(SCALES)
    assert len(given_as) == 2 + 3 * ARCH.blocks


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 4), *[st.integers(1, 3)] * 3),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_kernels_are_rounded_by_half_a_step_at_most(kernel: np.ndarray) -> None:
    steps, scale = quantise_kernel(kernel)
    assert steps.dtype == np.int8
    assert np.abs(steps.astype(int)).max() <= 127
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    wide = scale.astype(np.float64)[:, None, None, None, None]
    assert (np.abs(steps * wide - kernel) <= 0.5001 * wide).all()


def test_the_quickest_that_a_network_is_prepared_for_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, scaled = random_network(), random_network(scales=SCALES)
    for there in (("fp32",), ("fp32", "bf16"), ("fp32", "int8"), ("fp32", "bf16", "int8")):
        monkeypatch.setattr("qdec.neural.folded_model.precisions", lambda there=there: there)
        assert FoldedModel(scaled).runs_in == there[-1]
        assert FoldedModel(plain).runs_in == ("bf16" if "bf16" in there else "fp32")
        assert FoldedModel(scaled, precision="fp32").runs_in == "fp32"


def test_a_processor_that_sums_in_16_bits_has_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "_cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    supported_precisions.cache_clear()
    try:
        assert "int8" not in precisions()
        network = random_network(scales=SCALES)
        content = network.onnx(grid_of(code(), WINDOW), quantised=True)
        with pytest.raises(EngineError, match="int8"):
            compile_network(content, precision="int8")
    finally:
        supported_precisions.cache_clear()


def test_8_bits_without_scales_are_refused() -> None:
    with pytest.raises(ModelError, match="qdec model quantise"):
        compile_window(
            code(),
            Tier.SPEED,
            WHOLE,
            WINDOW,
            model=FoldedModel(random_network(), precision="int8"),
        )
    with pytest.raises(ModelError, match="quantises none"):
        compile_network(convolutions(), precision="int8")


@pytest.mark.parametrize(
    "scale", [float("nan"), float("inf"), 0.0, -0.1, 1e-12, 1e30], ids=lambda one: f"{one:g}"
)
def test_scales_that_are_none_are_refused(scale: float) -> None:
    with pytest.raises(ModelError, match=r"scale of 'look\.1' is"):
        random_network(scales={"look.0": 0.1, "look.1": scale})


@pytest.mark.parametrize("layer", ["look.2", "squeeze.0", "head", ""])
def test_scales_of_other_layers_are_refused(layer: str) -> None:
    with pytest.raises(ModelError, match="not quantised"):
        random_network(scales={layer: 0.1})


@pytest.mark.parametrize(
    "value",
    [
        np.float32([0.1, 0.1]),
        np.float64([0.1]),
        np.float16([0.1]),
        np.float32(0.1),
        np.zeros((0,), dtype=np.float32),
    ],
    ids=["two", "float64", "float16", "no axis", "none"],
)
def test_scales_of_another_form_are_refused(value: np.ndarray) -> None:
    with pytest.raises(ModelError, match="not float32"):
        scales_of({"scale.look.0": value})


def saved(path: Path, network: Network) -> Path:
    tensors = {**network.weights, **as_tensors(network.scales)}
    told = {**as_metadata(network.arch), "sha256": tensors_sha256(tensors)}
    write_tensors(path, tensors, told)
    return path


def test_scales_are_kept_with_the_weights_and_hashed_with_them(tmp_path: Path) -> None:
    files = [
        saved(tmp_path / f"{i}.safetensors", random_network(scales=scales))
        for i, scales in enumerate(({}, SCALES, {**SCALES, "look.0": 0.02}))
    ]
    stored = [load_model(str(path)) for path in files]
    assert len({one.info.sha256 for one in stored}) == 3
    found = from_stored(stored[1])
    assert found.scales == pytest.approx(SCALES)
    assert set(found.scales) <= set(quantisable(ARCH))
    assert found.weights.keys() == random_network().weights.keys()
