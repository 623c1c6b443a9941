"""Ising's published networks: recognised, checked, rebuilt, and computing what they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.weights import Tensors, forward, metadata, random_stack
from qdec.errors import ModelError
from qdec.neural.ising.model import compile_model
from qdec.neural.ising.network import PUBLISHED, Architecture, to_onnx, weights_of
from qdec.neural.ising.published import read_published
from qdec.neural.onnx_model import parse_model
from qdec.neural.tensor_file import TensorFile

SMALL = Architecture((6, 5, 7, 4), (3, 5, 1, 3))
# id: (channels, kernel, R, parameters), as published
TABLE = {
    1: ([128, 128, 128, 4], 3, 9, 912_772),
    2: ([256, 256, 256, 4], 3, 9, 3_595_012),
    3: ([128, 128, 128, 4], 5, 17, 4_224_388),
    4: ([128] * 5 + [4], 3, 13, 1_797_764),
    5: ([256] * 5 + [4], 3, 13, 7_134_468),
}


@pytest.mark.parametrize("number", TABLE)
def test_architectures_are_the_published_ones(number: int) -> None:
    filters, kernel, field, parameters = TABLE[number]
    architecture = PUBLISHED[number]
    assert list(architecture.filters) == filters
    assert set(architecture.kernels) == {kernel}
    assert architecture.receptive_field == field
    assert architecture.halo == (field - 1) // 2
    assert architecture.parameters == parameters


@pytest.mark.parametrize(
    ("filters", "kernels"),
    [
        ((), ()),
        ((4,), (2,)),
        ((8, 3), (3, 3)),
        ((8, 4), (3,)),
        ((0, 4), (3, 3)),
        ((1 << 20, 4), (3, 3)),
    ],
)
def test_other_stacks_are_refused(filters: tuple[int, ...], kernels: tuple[int, ...]) -> None:
    with pytest.raises(ModelError):
        Architecture(filters, kernels)


def pairs(tensors: Tensors) -> list[tuple[np.ndarray, np.ndarray]]:
    layers = sorted({int(name.split(".")[1]) for name in tensors})
    return [(tensors[f"net.{i}.weight"], tensors[f"net.{i}.bias"]) for i in layers]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_networks_compute_what_numpy_does(dtype: type) -> None:
    """Any batch, rounds and distance, kernels of several sizes, against another forward pass."""
    tensors = random_stack(SMALL, dtype=dtype)
    model = compile_model(weights_of(SMALL, tensors))
    rng = np.random.default_rng(1)
    for shape in [(1, 4, 5, 3, 3), (3, 4, 9, 5, 5), (2, 4, 1, 7, 7)]:
        x = rng.integers(0, 2, shape).astype(np.float32)
        np.testing.assert_allclose(model.network(x), forward(pairs(tensors), x), atol=2e-5)


def test_a_full_size_network_computes_what_numpy_does() -> None:
    tensors = random_stack(PUBLISHED[1], seed=2)
    number, weights = read_published(TensorFile(metadata(1), tensors))
    assert number == 1
    x = np.random.default_rng(1).integers(0, 2, (1, 4, 5, 3, 3)).astype(np.float32)
    ours = compile_model(weights).network(x)
    np.testing.assert_allclose(ours, forward(pairs(tensors), x), atol=1e-4)


@pytest.mark.parametrize("number", PUBLISHED)
def test_all_published_models_become_onnx(number: int) -> None:
    tensors = {name: np.zeros_like(t) for name, t in random_stack(PUBLISHED[number]).items()}
    _, weights = read_published(TensorFile(metadata(number), tensors))
    model = parse_model(to_onnx(weights))
    assert model.inputs == ((4, None, None, None),)
    assert model.channels == 4


def test_names_do_not_matter_but_their_order_does() -> None:
    """Numbers in names are numbers: layer 10 comes behind layer 9."""
    architecture = Architecture((5,) * 11 + (4,), (1,) * 12)
    tensors = random_stack(architecture)
    renamed = {
        f"_orig_mod.blocks.{int(name.split('.')[1]) // 3}.conv.{name.split('.')[2]}": tensor
        for name, tensor in sorted(tensors.items(), reverse=True)
    }
    one, other = weights_of(architecture, tensors), weights_of(architecture, renamed)
    for a, b in zip(one.kernels + one.biases, other.kernels + other.biases, strict=True):
        np.testing.assert_array_equal(a, b)


def changed(**more: np.ndarray | None) -> Tensors:
    tensors = random_stack(PUBLISHED[1])
    for name, tensor in more.items():
        key = "net." + name.lstrip("n").replace("_", ".")
        if tensor is None:
            del tensors[key]
        else:
            tensors[key] = tensor
    return tensors


HALF = np.float16
NAN = np.full(128, np.nan, HALF)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (changed(n3_bias=None), "4 kernels and 3 biases among 7"),
        (changed(n9_mean=np.zeros(4, HALF)), "4 kernels and 5 biases"),
        (changed(n9_scale=np.zeros((1, 4), HALF)), "among 9 tensors"),
        (changed(n0_bias=np.zeros(127, HALF)), r"shape \(127,\), not \(128,\)"),
        (changed(n3_weight=np.zeros((128, 128, 3, 3, 1), HALF)), "shape"),
        (changed(n0_bias=NAN), "not finite"),
        (changed(n0_bias=np.zeros(128, np.float32)), "float32 in an fp16 file"),
        (changed(n0_bias=np.zeros(128, np.int8)), "int8 in an fp16 file"),
    ],
)
def test_tensors_of_no_such_model_are_refused(tensors: Tensors, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read_published(TensorFile(metadata(1), tensors))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_version": None}, "lacks model_version"),
        ({"model_id": "6"}, "published models are 1 to 5"),
        ({"model_id": "4"}, "receptive_field is 9, and model 4 has 13"),
        ({"model_id": "one"}, "not a number"),
        ({"model_id": "٣"}, "not a number"),
        ({"model_id": "9" * 10_000}, "not a number"),
        ({"receptive_field": "11"}, "model 1 has 9"),
        ({"num_filters": "[256, 256, 256, 4]"}, "num_filters is"),
        ({"num_filters": "[128, 128, 128, true]"}, "not a list of numbers"),
        ({"num_filters": "[" * 900}, "not a list of numbers"),
        ({"kernel_size": "3"}, "not a list of numbers"),
        ({"kernel_size": "[3, 3, 3, 5]"}, "kernel_size is"),
        ({"quant_format": "int8"}, "use the fp16 file"),
        ({"quant_format": "fp32"}, "float16 in an fp32 file"),
        ({"model_version": "a\nb"}, "no short line"),
    ],
)
def test_metadata_of_no_such_model_is_refused(changes: dict[str, str | None], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read_published(TensorFile(metadata(1, **changes), changed()))


def test_nothing_of_nvidias_is_shipped() -> None:
    from qdec.neural.store import SHIPPED, list_models

    assert not any(one.family == "ising" for one in list_models(Path("/nonexistent")))
    assert SHIPPED.name == "models"
