"""ONNX's operators in PyTorch: those that `qdec.neural.onnx_model` lets in, and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdec.errors import EngineError, ModelError

Step = tuple[Callable[..., Any], tuple[str, ...], str]
_BITS = {"torch.uint8": (0, 255), "torch.int8": (-128, 127)}


def steps(torch: Any, content: bytes, real: Any) -> tuple[dict[str, Any], tuple[Step, ...], str]:
    """What a checked model computes.

    Args:
        torch: the module.
        content: the model.
        real: the type that stands for float32.

    Returns:
        Its constants by name, on the processor as the model has them; functions with the names of
        what they take ("": nothing) and give, in order; the name of the result.

    Raises:
        ModelError: a node is more than what is known of its operator.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(content).graph
    constants = {
        one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer
    }
    found: list[Step] = []
    for node in graph.node:
        says = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = _constant(torch, says)
            continue
        says["real"] = real
        make = _MAKERS.get(node.op_type)
        if make is None:  # the list of operators is longer than this one
            raise EngineError(f"PyTorch is not taught the operator {node.op_type[:60]}")
        found.append((make(torch, says), tuple(node.input), node.output[0]))
    return constants, tuple(found), graph.output[0].name


def _constant(torch: Any, says: dict[str, Any]) -> Any:
    from onnx import numpy_helper

    ((name, value),) = says.items()
    if name == "value":
        return torch.from_numpy(numpy_helper.to_array(value).copy())
    if name in ("value_float", "value_floats", "value_int", "value_ints"):
        return torch.tensor(value)
    raise ModelError(f"a constant of the model is of the kind {name[:60]}")


def _conv(torch: Any, says: dict[str, Any]) -> Callable[..., Any]:
    if says.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ModelError("a convolution pads by itself: export it with pads")
    pads = list(says.get("pads", [0] * 6))
    stride = list(says.get("strides", [1] * 3))
    dilation = list(says.get("dilations", [1] * 3))
    groups = int(says.get("group", 1))
    front, back = pads[:3], pads[3:]
    # PyTorch pads both sides alike; what is more goes in front of it, the last direction first.
    more = [n for pair in zip(reversed(front), reversed(back), strict=True) for n in pair]

    def run(x: Any, weight: Any, bias: Any = None) -> Any:
        if front != back:
            x = torch.nn.functional.pad(x, more)
            return torch.conv3d(x, weight, bias, stride, 0, dilation, groups)
        return torch.conv3d(x, weight, bias, stride, front, dilation, groups)

    return run


def _along(x: Any, scale: Any, axis: int) -> Any:
    """A scale or zero point per channel, shaped to go with a tensor."""
    if scale is None or scale.ndim == 0 or scale.numel() == 1:
        return scale if scale is None else scale.reshape(())
    return scale.reshape([-1 if at == axis % x.ndim else 1 for at in range(x.ndim)])


def _quantise(torch: Any, says: dict[str, Any]) -> Callable[..., Any]:
    axis = int(says.get("axis", 1))

    def run(x: Any, scale: Any, zero: Any = None) -> Any:
        kind = torch.uint8 if zero is None else zero.dtype
        low, high = _BITS[str(kind)]
        # In float32: a quotient of 16 bits would not tell all steps from each other.
        steps = torch.round(x.float() / _along(x, scale, axis).float())
        if zero is not None:
            steps = steps + _along(x, zero, axis)
        return torch.clamp(steps, low, high).to(kind)

    return run


def _dequantise(torch: Any, says: dict[str, Any]) -> Callable[..., Any]:
    axis = int(says.get("axis", 1))

    def run(x: Any, scale: Any, zero: Any = None) -> Any:
        steps = x.to(torch.int32)
        if zero is not None:
            steps = steps - _along(x, zero, axis).to(torch.int32)
        return steps.to(scale.dtype) * _along(x, scale, axis)

    return run


def _cast(torch: Any, says: dict[str, Any]) -> Callable[..., Any]:
    from onnx import TensorProto

    known: dict[int, Any] = {
        TensorProto.FLOAT16: torch.float16,
        TensorProto.INT64: torch.int64,
        TensorProto.INT32: torch.int32,
        TensorProto.INT8: torch.int8,
        TensorProto.UINT8: torch.uint8,
        TensorProto.BOOL: torch.bool,
    }
    wanted = int(says["to"])
    if wanted == TensorProto.FLOAT:  # the network's own arithmetic, whatever that is
        return lambda x: x.to(says["real"])
    if wanted not in known:
        raise ModelError(f"a cast of the model is to the type {wanted}")
    return lambda x: x.to(known[wanted])


def _gelu(torch: Any, says: dict[str, Any]) -> Callable[..., Any]:
    how = says.get("approximate", b"none").decode()
    return lambda x: torch.nn.functional.gelu(x, approximate=how)


def _reshape(torch: Any, says: dict[str, Any]) -> Callable[..., Any]:
    as_is = not says.get("allowzero", 0)

    def run(x: Any, shape: Any) -> Any:
        sizes = shape.tolist()
        return x.reshape([x.shape[i] if n == 0 and as_is else n for i, n in enumerate(sizes)])

    return run


def _hard_sigmoid(torch: Any, says: dict[str, Any]) -> Callable[..., Any]:
    alpha, beta = says.get("alpha", 0.2), says.get("beta", 0.5)
    return lambda x: torch.clamp(alpha * x + beta, 0, 1)


def _plain(name: str) -> Callable[..., Callable[..., Any]]:
    """An operator without attributes that PyTorch has under a name of its own."""
    return lambda torch, says: getattr(torch, name)


_MAKERS: dict[str, Callable[[Any, dict[str, Any]], Callable[..., Any]]] = {
    "Add": _plain("add"),
    "Cast": _cast,
    "Clip": lambda torch, says: lambda x, low=None, high=None: torch.clamp(x, low, high),
    "Concat": lambda torch, says: lambda *parts: torch.cat(parts, int(says["axis"])),
    "Conv": _conv,
    "DequantizeLinear": _dequantise,
    "Div": _plain("div"),
    "Erf": _plain("erf"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda torch, says: torch.nn.functional.hardswish,
    "Identity": lambda torch, says: lambda x: x,
    "LeakyRelu": lambda torch, says: (
        lambda x: torch.nn.functional.leaky_relu(x, says.get("alpha", 0.01))
    ),
    "Mul": _plain("mul"),
    "Pow": _plain("pow"),
    "QuantizeLinear": _quantise,
    "Relu": _plain("relu"),
    "Reshape": _reshape,
    "Sigmoid": _plain("sigmoid"),
    "Softplus": lambda torch, says: torch.nn.functional.softplus,
    "Sqrt": _plain("sqrt"),
    "Sub": _plain("sub"),
    "Tanh": _plain("tanh"),
    "Transpose": lambda torch, says: lambda x: x.permute(tuple(says["perm"])),
}
