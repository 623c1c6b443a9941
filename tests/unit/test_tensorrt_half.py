"""What fp16 and signed 8 bits make of a model, held against ONNX's own evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.networks import convolutions, model, reference
from helpers.plans import events, ising, shipped
from helpers.plans import exact as evaluated
from qdec.errors import ModelError
from qdec.neural.onnx_model import parse_model
from qdec.neural.tensorrt.half import as_half, signed


def kinds(content: bytes) -> tuple[int, int]:
    """Types of the first input and of the output."""
    graph = onnx.load_model_from_string(content).graph
    return tuple(one.type.tensor_type.elem_type for one in (graph.input[0], graph.output[0]))


def agreement(exact: np.ndarray, near: np.ndarray) -> float:
    """Share of logits of the same sign."""
    return float((np.sign(exact) == np.sign(near)).mean())


@pytest.mark.parametrize("name", ["speed", "accuracy"])
def test_half_precision_keeps_the_signs_of_what_ships(name: str) -> None:
    content, size = shipped(name, "whole", quantised=False)
    half = as_half(content)
    assert kinds(half) == (TensorProto.FLOAT, TensorProto.FLOAT)
    parse_model(half)
    x = events(8, size)
    exact, near = reference(content, x), reference(half, x)
    assert near.dtype == np.float32
    assert agreement(exact, near) >= 0.999
    assert np.abs(exact - near).max() < 0.02 * np.abs(exact).max()


def test_weights_are_half_as_large_and_no_float_is_left() -> None:
    content = convolutions((4, 64, 64, 4))
    half = as_half(content, io="fp16")
    assert kinds(half) == (TensorProto.FLOAT16, TensorProto.FLOAT16)
    tensors = onnx.load_model_from_string(half).graph.initializer
    assert {tensor.data_type for tensor in tensors} == {TensorProto.FLOAT16}
    assert len(half) < 0.55 * len(content)
    x = events(2, (3, 4, 5))
    exact = reference(content, x)
    near = reference(half, x.astype(np.float16))
    np.testing.assert_allclose(near, exact, atol=0.01 * np.abs(exact).max())


def test_an_ising_network_in_half_precision_keeps_its_signs() -> None:
    content = ising()
    x = events(1, (3, 3, 3))
    exact, near = reference(content, x), reference(as_half(content), x)
    assert agreement(exact, near) >= 0.99


def test_eight_bits_with_a_sign_lose_one_bit_and_no_range() -> None:
    content, size = shipped("speed", "whole", quantised=True)
    changed = signed(content)
    graph = onnx.load_model_from_string(changed).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    assert all(value.dtype != np.uint8 for value in arrays.values())
    before = {
        one.name: numpy_helper.to_array(one)
        for one in onnx.load_model_from_string(content).graph.initializer
    }
    ranges = [name for name in arrays if name.endswith(".scale") and not arrays[name].ndim]
    assert ranges
    for name in ranges:
        assert np.isclose(127 * arrays[name], 255 * before[name])
    x = events(8, size)
    exact, near = evaluated(content, x), evaluated(changed, x)
    assert agreement(exact, near) >= 0.999
    both = evaluated(as_half(changed), x)
    assert agreement(exact, both) >= 0.998


def test_what_does_not_fit_into_16_bits_is_refused() -> None:
    arrays: dict[str, Any] = {"w": np.full((4, 4, 1, 1, 1), 1e5, dtype=np.float32)}
    content = model([helper.make_node("Conv", ["x", "w"], ["y"])], arrays).SerializeToString()
    with pytest.raises(ModelError, match="too large for fp16"):
        as_half(content)
    tiny, _ = shipped("speed", "whole", quantised=True)
    proto = onnx.load_model_from_string(tiny)
    for one in proto.graph.initializer:
        if one.name == "look.0.scale":
            one.CopyFrom(numpy_helper.from_array(np.float32(1e-6), one.name))
    with pytest.raises(ModelError, match="too small for fp16"):
        as_half(proto.SerializeToString())


@pytest.mark.parametrize("zero", [np.uint8(3), np.int8(-1)])
def test_zero_points_other_than_zero_are_refused(zero: Any) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    content = model(nodes, {"scale": np.float32(0.1), "zero": zero}).SerializeToString()
    with pytest.raises(ModelError, match="zero points of 0"):
        signed(content)
    bare = model(
        [
            helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]),
        ],
        {"scale": np.float32(0.1)},
    )
    with pytest.raises(ModelError, match="without a zero point"):
        signed(bare.SerializeToString())
