"""The precision of a model's arithmetic, written into the model itself.

TensorRT's networks are strongly typed: what an ONNX file says is what is computed. So fp16 means a
model whose weights are fp16, and 8 bits one that quantises its tensors.

TensorRT quantises to 8 bits with a sign, and its parser takes a zero point of type uint8 for one of
int8 without a word, which would clip the upper half of every layer's range. The own family's
activations go from 0 to 255 steps; here they become 0 to 127 steps of twice the size: one bit less.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qdec.errors import ModelError
from qdec.neural.onnx_model import parse_model

Form = Literal["fp32", "fp16"]
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_normal)
# The first whose quantisation takes float16. Up to here, operators that are served got new types
# and no new meaning.
_OPSET = 19
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def as_half(content: bytes, *, io: Form = "fp32") -> bytes:
    """A float32 model with float16 weights and activations.

    Args:
        content: the ONNX model, as `qdec.neural.onnx_model.parse_model` takes it.
        io: of inputs and output: with fp32 there is a cast behind each input and before the output.

    Raises:
        ModelError: it is no such model, or a weight or scale does not fit into 16 bits.
    """
    import onnx
    from onnx import TensorProto, helper

    parse_model(content)
    proto = onnx.load_model_from_string(content)
    graph = proto.graph
    del graph.value_info[:]
    for opset in proto.opset_import:
        opset.version = max(opset.version, _OPSET)
    for name, tensor in _floats(graph):
        tensor.CopyFrom(onnx.numpy_helper.from_array(_halved(tensor, name), tensor.name))
    for node in graph.node:
        for one in node.attribute:
            if node.op_type == "Cast" and one.name == "to" and one.i == TensorProto.FLOAT:
                one.i = TensorProto.FLOAT16
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if io == "fp16":
        for value in (*inputs, *graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        return bytes(proto.SerializeToString())
    names = {value.name: f"{value.name}/half" for value in (*inputs, *graph.output)}
    for node in graph.node:
        node.input[:] = [names.get(one, one) for one in node.input]
        node.output[:] = [names.get(one, one) for one in node.output]
    for at, value in enumerate(inputs):
        cast = helper.make_node("Cast", [value.name], [names[value.name]], to=TensorProto.FLOAT16)
        graph.node.insert(at, cast)
    out = graph.output[0].name
    graph.node.append(helper.make_node("Cast", [names[out]], [out], to=TensorProto.FLOAT))
    return bytes(proto.SerializeToString())


def signed(content: bytes) -> bytes:
    """A model whose tensors are quantised to int8 where they were to uint8 from zero on.

    Raises:
        ModelError: it is no model, or one has a zero point other than zero.
    """
    import onnx
    from onnx import numpy_helper

    parse_model(content)
    proto = onnx.load_model_from_string(content)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    zeros, scales = set(), set()
    for node in proto.graph.node:
        if node.op_type not in _QUANTISERS:
            continue
        if len(node.input) < 3:
            if node.op_type == "QuantizeLinear":
                raise ModelError("a tensor is quantised without a zero point, which means uint8")
            continue
        zero = tensors.get(node.input[2])
        if zero is None or node.input[1] not in tensors or numpy_helper.to_array(zero).any():
            raise ModelError("TensorRT takes quantised tensors with zero points of 0 only")
        if zero.data_type == onnx.TensorProto.UINT8:
            if node.input[0] in tensors:
                raise ModelError("TensorRT takes weights of 8 bits with a sign only")
            zeros.add(zero.name)
            scales.add(node.input[1])
    for name in zeros:
        value = numpy_helper.to_array(tensors[name]).astype(np.int8)
        tensors[name].CopyFrom(numpy_helper.from_array(value, name))
    for name in scales:
        value = (numpy_helper.to_array(tensors[name]) * (255 / 127)).astype(np.float32)
        tensors[name].CopyFrom(numpy_helper.from_array(value, name))
    return bytes(proto.SerializeToString())


def _floats(graph: Any) -> list[tuple[str, Any]]:
    from onnx import TensorProto

    found = [(one.name, one) for one in graph.initializer]
    for node in graph.node:
        found += [(node.name, one.t) for one in node.attribute if one.HasField("t")]
        if node.op_type == "Constant" and any(
            one.name in ("value_float", "value_floats") for one in node.attribute
        ):
            raise ModelError("a constant of the model is no tensor: export it as one for fp16")
    return [(name, one) for name, one in found if one.data_type == TensorProto.FLOAT]


def _halved(tensor: Any, name: str) -> NDArray[np.float16]:
    from onnx import numpy_helper

    value = np.asarray(numpy_helper.to_array(tensor), dtype=np.float32)
    size = np.abs(value)
    if size.size and size.max() > _LARGEST:
        raise ModelError(f"the weights '{name[:60]}' are too large for fp16: use fp32")
    if name.endswith(".scale") and size.size and size.min() < _SMALLEST:
        raise ModelError(f"the scale '{name[:60]}' is too small for fp16: use fp16 without int8")
    return value.astype(np.float16)
