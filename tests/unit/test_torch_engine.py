"""PyTorch as an engine: the same numbers as ONNX's evaluator and as OpenVINO, on the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from helpers.networks import SHAPE, convolutions, model, reference, value, weights
from helpers.plans import events, ising, shipped
from helpers.plans import exact as evaluated
from qdec.errors import EngineError
from qdec.neural.engine import compile_network
from qdec.neural.onnx_model import _OPERATORS, parse_model
from qdec.neural.torch_engine import TorchNetwork

pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
SIZE = (4, 5, 3)


def in_torch(content: bytes, precision: Any = "fp32") -> TorchNetwork:
    return TorchNetwork(parse_model(content), precision=precision, threads=1, device="cpu")


@pytest.mark.parametrize("kind", ["whole", "mid-stream"])
@pytest.mark.parametrize("name", ["speed", "accuracy"])
def test_shipped_models_say_the_same_as_in_openvino(name: str, kind: str) -> None:
    content, size = shipped(name, kind, quantised=False)
    network = in_torch(content)
    other = compile_network(content)
    assert network.channels == other.channels
    for batch in (1, 7):
        x = events(batch, size)
        exact = other(x)
        np.testing.assert_allclose(network(x), exact, atol=1e-4 * np.abs(exact).max())
    assert network(np.zeros((0, 4, *size), dtype=np.float32)).shape == (0, *exact.shape[1:])


def test_quantised_models_are_exact() -> None:
    content, size = shipped("speed", "whole", quantised=True)
    x = events(3, size)
    exact = evaluated(content, x)
    found = in_torch(content, "int8")(x)
    # A sum of another order may round to another step; that is one step in a few places.
    assert (np.abs(found - exact) < 1e-3).mean() > 0.98
    assert (np.sign(found) == np.sign(exact)).mean() >= 0.999


def test_an_ising_network_of_any_size_says_the_same_as_in_openvino() -> None:
    content = ising()
    network, other = in_torch(content), compile_network(content)
    for size in ((3, 3, 3), (2, 5, 5)):
        x = events(2, size)
        np.testing.assert_allclose(network(x), other(x), atol=1e-4)


ONE: dict[str, tuple[list[str], dict[str, Any]]] = {
    "Add": (["x", "half"], {}),
    "Cast": (["x"], {"to": 1}),
    "Clip": (["x", "half"], {}),
    "Div": (["x", "half"], {}),
    "Erf": (["x"], {}),
    "Gelu": (["x"], {}),
    "HardSigmoid": (["x"], {"alpha": 0.3}),
    "HardSwish": (["x"], {}),
    "Identity": (["x"], {}),
    "LeakyRelu": (["x"], {"alpha": 0.2}),
    "Mul": (["x", "half"], {}),
    "Pow": (["x", "two"], {}),
    "Relu": (["x"], {}),
    "Reshape": (["x", "shape"], {}),
    "Sigmoid": (["x"], {}),
    "Softplus": (["x"], {}),
    "Sub": (["x", "half"], {}),
    "Tanh": (["x"], {}),
}
ARRAYS = {
    "half": np.float32(0.5),
    "two": np.float32(2),
    "shape": np.array([0, 4, 4, 5, -1], dtype=np.int64),
}


@pytest.mark.parametrize("operator", ONE)
def test_operators_equal_the_reference(operator: str) -> None:
    inputs, says = ONE[operator]
    used = {name: ARRAYS[name] for name in inputs if name in ARRAYS}
    node = helper.make_node(operator, inputs, ["y"], **says)
    source = [value("x", ("batch", 4, *SIZE))]
    output = [value("y", ("batch", 4, *SIZE))]
    content = model([node], used, inputs=source, outputs=output).SerializeToString()
    x = np.random.default_rng(3).standard_normal((2, 4, *SIZE)).astype(np.float32)
    np.testing.assert_allclose(in_torch(content)(x), reference(content, x), atol=1e-5)


def test_convolutions_of_all_kinds_and_layouts_equal_the_reference() -> None:
    arrays = {
        "w": weights((6, 2, 3, 1, 3), 1),
        "b": weights((6,), 2, 0.1),
        "v": weights((4, 12, 1, 1, 1), 3),
    }
    constant = helper.make_tensor("c", 1, (1, 6, 1, 1, 1), np.arange(6, dtype=np.float32))
    pads = [2, 0, 1, 0, 0, 1]
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("Conv", ["x", "w", "b"], ["h"], group=2, pads=pads),
        helper.make_node("Mul", ["h", "c"], ["m"]),
        helper.make_node("Concat", ["h", "m"], ["j"], axis=1),
        helper.make_node("Transpose", ["j"], ["t"], perm=[0, 1, 3, 2, 4]),
        helper.make_node("Transpose", ["t"], ["u"], perm=[0, 1, 3, 2, 4]),
        helper.make_node("Mul", ["u", "u"], ["s"]),
        helper.make_node("Sqrt", ["s"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    content = model(nodes, arrays).SerializeToString()
    x = np.random.default_rng(3).standard_normal((2, 4, *SIZE)).astype(np.float32)
    np.testing.assert_allclose(in_torch(content)(x), reference(content, x), atol=1e-4)


def test_every_operator_that_is_let_in_is_known() -> None:
    from qdec.neural.torch_operators import _MAKERS

    assert set(_MAKERS) | {"Constant"} == _OPERATORS


def test_what_the_processor_does_not_have_is_refused() -> None:
    with pytest.raises(EngineError, match=r"fp16.*on cpu"):
        in_torch(convolutions(), "fp16")
    network = compile_network(convolutions(), engine="torch")
    with pytest.raises(EngineError, match="takes float32"):
        network(np.zeros((1, 3, *SIZE), dtype=np.float32))
    assert SHAPE[1] == network.channels[1]
