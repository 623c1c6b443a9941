"""ONNX models from outside, checked before an engine sees them.

An ONNX file is a program: it may loop, read other files, and ask for tensors of any size. What
passes here is arithmetic from a short list, with all weights inside, finite, and every tensor's
size known and bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdec.errors import EngineError, ModelError

MAX_MODEL_BYTES = 64 << 20
_MAX_NODES = 4096
_OPSETS = range(13, 25)
# Plain arithmetic: nothing that loops, branches, draws random numbers, or makes a tensor from
# nothing.
# fmt: off
_OPERATORS = frozenset((
    "Add", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Erf",
    "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mul", "Pow", "QuantizeLinear",
    "Relu", "Reshape", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh", "Transpose",
))
# fmt: on
# Stands in for dimensions that a model leaves open, to infer shapes with: all different, and even
# for networks that fold pairs of cells.
_PROBE = (2, 0, 8, 12, 16)
# Elements of one tensor at the probe's size, which is some 3,000 cells: the widest network that
# this allows has 20,000 channels.
_MAX_ELEMENTS = 1 << 26
_RANK = 5


@dataclass(frozen=True, slots=True)
class Model:
    """A checked model.

    Attributes:
        content: the serialised model.
        inputs: ``(C_i, T, H, W)`` of each input; None for dimensions left open. The batch always
            is.
        channels: channels of the output.
        quantised: some of its tensors are rounded to 8 bits.
        names: of the inputs.
    """

    content: bytes
    inputs: tuple[tuple[int, int | None, int | None, int | None], ...]
    channels: int
    quantised: bool
    names: tuple[str, ...]


def parse_model(content: bytes) -> Model:
    """Check a serialised ONNX model.

    It must have float32 inputs ``(B, C, T, H, W)`` with the batch left open and the channels
    given, and one float32 output ``(B, C', T, H, W)`` of the same batch, rounds and space.

    Raises:
        ModelError: it is not ONNX, too large, keeps weights in other files, holds an operator that
            is not on the list, weights that are not finite, or tensors of another layout.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if len(content) > MAX_MODEL_BYTES:
        raise ModelError(
            f"the ONNX model has {len(content):,} bytes; the limit is {MAX_MODEL_BYTES:,}"
        )
    try:
        proto = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"not an ONNX model: {_first_line(error)}") from None
    graph = proto.graph
    if not graph.node:
        raise ModelError("not an ONNX model, or an empty one: its graph has no nodes")
    _check_operators(proto)
    for tensor in _tensors(graph):
        _check_tensor(tensor)
    weights = {tensor.name for tensor in graph.initializer}
    values = [value for value in graph.input if value.name not in weights]
    if not values:
        raise ModelError("the ONNX model has no input")
    inputs = tuple(_input_shape(value) for value in values)
    if len(graph.output) != 1:
        raise ModelError(f"the ONNX model has {len(graph.output)} outputs; it must have one")
    channels = _infer_channels(proto, [value.name for value in values])
    quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
    return Model(content, inputs, channels, quantised, tuple(value.name for value in values))


def check_inputs(model: Model, inputs: tuple[NDArray[np.float32], ...]) -> None:
    """Make sure that arrays are what a model takes.

    Raises:
        EngineError: their number, type or shape is another.
    """
    if len(inputs) != len(model.inputs):
        raise EngineError(f"the network has {len(model.inputs)} inputs, not {len(inputs)}")
    for given, wanted in zip(inputs, model.inputs, strict=True):
        shape = given.shape
        fits = len(shape) == _RANK and all(
            got and size in (None, got) for size, got in zip(wanted, shape[1:], strict=True)
        )
        if given.dtype != np.float32 or not fits or shape[0] != inputs[0].shape[0]:
            text = ", ".join(str(size or name) for size, name in zip(wanted, "CTHW", strict=True))
            raise EngineError(f"the network takes float32 (B, {text}), not {given.dtype} {shape}")


def _check_operators(proto: Any) -> None:
    graph = proto.graph
    if proto.functions or graph.sparse_initializer:
        raise ModelError("the ONNX model holds functions or sparse weights: neither is served")
    versions = [one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in _OPSETS:
        raise ModelError(
            f"the ONNX model needs operator set {versions}; served are {_OPSETS[0]} to "
            f"{_OPSETS[-1]}"
        )
    if len(graph.node) > _MAX_NODES:
        raise ModelError(f"the ONNX model has {len(graph.node):,} nodes; the limit is {_MAX_NODES}")
    for node in graph.node:
        name = f"{node.domain}.{node.op_type}".removeprefix("ai.onnx").removeprefix(".")
        if name not in _OPERATORS:
            raise ModelError(
                f"the ONNX model holds the operator {name[:60]!r}; served are "
                f"{', '.join(sorted(_OPERATORS))}"
            )


def _tensors(graph: Any) -> Iterator[Any]:
    """All weights: initializers, and constants among the nodes' attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs or attribute.HasField("sparse_tensor"):
                raise ModelError(f"a node of type {node.op_type} holds a graph or sparse weights")
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_tensor(tensor: Any) -> None:
    import onnx
    from onnx import numpy_helper

    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(
            f"the ONNX model keeps the weights {tensor.name[:60]!r} in another file: export it "
            "with everything in one"
        )
    if any(size < 0 for size in tensor.dims) or _product(tensor.dims) > MAX_MODEL_BYTES:
        raise ModelError(f"the weights {tensor.name[:60]!r} have an impossible shape")
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"the weights {tensor.name[:60]!r} cannot be read: {_first_line(error)}"
        ) from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(f"the weights {tensor.name[:60]!r} are not all finite")


def _input_shape(value: Any) -> tuple[int, int | None, int | None, int | None]:
    import onnx

    name = value.name[:60]
    tensor = value.type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(sizes) != _RANK:
        raise ModelError(
            f"the input {name!r} is not float32 (batch, channels, rounds, height, width)"
        )
    batch, channels, rounds, height, width = sizes
    if batch is not None:
        raise ModelError(
            f"the input {name!r} has a fixed batch of {batch}: export with the batch left open"
        )
    if channels is None or any(size is not None and size < 1 for size in sizes):
        raise ModelError(f"the input {name!r} does not say how many channels it has")
    return channels, rounds, height, width


def _infer_channels(proto: Any, inputs: list[str]) -> int:
    """Channels of the output, once every tensor's shape is known and bounded."""
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    graph = probe.graph
    # What the file says of its own intermediate shapes is not to be believed.
    del graph.value_info[:]
    for value in graph.input:
        if value.name in inputs:
            for size, dim in zip(_PROBE, value.type.tensor_type.shape.dim, strict=True):
                if not dim.HasField("dim_value"):
                    dim.dim_value = size
    output = graph.output[0]
    output.type.Clear()
    try:
        inferred = onnx.shape_inference.infer_shapes(
            probe, check_type=True, strict_mode=True, data_prop=True
        ).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ModelError(f"the ONNX model's shapes do not fit: {_first_line(error)}") from None
    known = {value.name: value.type.tensor_type for value in inferred.value_info}
    known[output.name] = inferred.output[0].type.tensor_type
    for node in inferred.node:
        for name in filter(None, node.output):
            if name not in known or not known[name].HasField("shape"):
                raise ModelError(f"the shape of {name[:60]!r} in the ONNX model is not known")
            sizes = [dim.dim_value for dim in known[name].shape.dim]
            if _product(sizes) > _MAX_ELEMENTS or any(size < 1 for size in sizes):
                raise ModelError(f"the tensor {name[:60]!r} in the ONNX model has size {sizes}")
    known |= {value.name: value.type.tensor_type for value in inferred.input}
    _check_convolutions(inferred, known)
    first = next(value for value in inferred.input if value.name in inputs)
    wanted = [dim.dim_value for dim in first.type.tensor_type.shape.dim]
    result = known[output.name]
    sizes = [dim.dim_value for dim in result.shape.dim]
    same = len(sizes) == _RANK and (sizes[0], *sizes[2:]) == (wanted[0], *wanted[2:])
    if result.elem_type != onnx.TensorProto.FLOAT or not same:
        raise ModelError(
            "the ONNX model's output is not float32 (batch, channels, rounds, height, width) of "
            f"its input's size: {wanted} gives {sizes}"
        )
    return int(sizes[1])


def _check_convolutions(graph: Any, known: dict[str, Any]) -> None:
    """ONNX's shape inference does not look at the channels that a convolution takes."""
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv" or node.input[0] not in known:
            continue
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        taken = weights.get(node.input[1])
        given = known[node.input[0]].shape.dim[1].dim_value
        if taken is not None and taken[1] * groups != given:
            raise ModelError(
                f"the ONNX model's shapes do not fit: the convolution {node.output[0][:60]!r} "
                f"takes {taken[1] * groups} channels and is given {given}"
            )


def _product(sizes: Any) -> int:
    """Of any numbers, without wrapping around."""
    out = 1
    for size in sizes:
        out *= int(size)
    return out


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
