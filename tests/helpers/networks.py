"""Small networks as ONNX, and what ONNX's own reference evaluator says they compute."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from qdec.neural.engine import Floats

SHAPE = ("batch", 4, "rounds", "height", "width")


def value(name: str, shape: Sequence[int | str] = SHAPE, type_: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, type_, list(shape))


def weights(shape: tuple[int, ...], seed: int, scale: float | None = None) -> Floats:
    """Random weights that keep activations near one."""
    fan_in = int(np.prod(shape[1:])) or 1
    rng = np.random.default_rng(seed)
    scale = (2 / fan_in) ** 0.5 if scale is None else scale
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def model(
    nodes: Sequence[Any],
    initializers: dict[str, Any] | None = None,
    *,
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    opset: int = 20,
    **options: Any,
) -> onnx.ModelProto:
    """A model of these nodes, from `x` to `y` unless said otherwise."""
    graph = helper.make_graph(
        list(nodes),
        "network",
        list(inputs) or [value("x")],
        list(outputs) or [value("y")],
        [numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()],
    )
    versions = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=versions, ir_version=10, **options)


def convolutions(channels: Sequence[int] = (4, 6, 4), kernel: int = 3, seed: int = 0) -> bytes:
    """A stack of padded convolutions with ReLU between them."""
    nodes, arrays, at = [], {}, "x"
    for i, (n_in, n_out) in enumerate(pairwise(channels)):
        arrays[f"w{i}"] = weights((n_out, n_in, kernel, kernel, kernel), seed + 2 * i)
        arrays[f"b{i}"] = weights((n_out,), seed + 2 * i + 1, 0.1)
        last = i == len(channels) - 2
        out = "y" if last else f"c{i}"
        pads = [kernel // 2] * 6
        nodes.append(helper.make_node("Conv", [at, f"w{i}", f"b{i}"], [out], pads=pads))
        if not last:
            at = f"r{i}"
            nodes.append(helper.make_node("Relu", [out], [at]))
    output = value("y", ("batch", channels[-1], *SHAPE[2:]))
    source = value("x", ("batch", channels[0], *SHAPE[2:]))
    return model(nodes, arrays, inputs=[source], outputs=[output]).SerializeToString()


def reference(content: bytes, *inputs: Floats) -> Floats:
    """What a model computes, by ONNX's reference evaluator."""
    proto = onnx.load_model_from_string(content)
    feed = {one.name: array for one, array in zip(proto.graph.input, inputs, strict=True)}
    return ReferenceEvaluator(proto).run(None, feed)[0]
