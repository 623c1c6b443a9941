"""A trained network of the own family: its weights, and the ONNX model of a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdec.errors import ModelError
from qdec.neural.folded import Architecture, static_planes
from qdec.neural.grid import WindowGrid
from qdec.neural.quantised import check_scales, quantise_kernel

Floats = NDArray[np.float32]
_OPSET = 17


@dataclass(frozen=True, slots=True)
class Network:
    """Weights of one architecture, finite and of the right shapes.

    Attributes:
        arch: the architecture.
        weights: float32 tensors by the names of `shapes`.
        scales: of what layers are given that can run in 8 bits; see `qdec.neural.quantised`.
    """

    arch: Architecture
    weights: dict[str, Floats]
    scales: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ModelError: a tensor is missing, left over, of another shape, or not finite, or a scale
                is none.
        """
        wanted = shapes(self.arch)
        if missing := sorted(wanted.keys() - self.weights.keys()):
            raise ModelError(f"the model lacks the weights {', '.join(missing[:4])}")
        if surplus := sorted(self.weights.keys() - wanted.keys()):
            raise ModelError(f"the model holds weights that it has no use for: {surplus[0]}")
        for name, shape in wanted.items():
            tensor = self.weights[name]
            if tensor.shape != shape or tensor.dtype != np.float32:
                raise ModelError(
                    f"the weights {name} are {tensor.dtype} {tensor.shape}, not float32 {shape}"
                )
            if not np.isfinite(tensor).all():
                raise ModelError(f"the weights {name} are not all finite")
        check_scales(self.arch, self.scales)

    def context(self, grid: WindowGrid) -> Floats:
        """``(1, width, T, H, W)``: what the first layer makes of a window's static planes.

        It is the same for all syndromes, so it is computed once.
        """
        planes = static_planes(grid, self.arch.channels)
        kernel = self.weights["static.weight"]
        rounds, height, width = grid.shape
        padded = np.pad(planes, ((0, 0), (1, 1), (1, 1), (1, 1)))
        out = np.zeros((self.arch.width, rounds * height * width), dtype=np.float32)
        for t, i, j in np.ndindex(3, 3, 3):
            seen = padded[:, t : t + rounds, i : i + height, j : j + width]
            out += kernel[:, :, t, i, j] @ seen.reshape(len(planes), -1)
        out += self.weights["events.bias"][:, None]
        return out.reshape(1, self.arch.width, rounds, height, width)

    def onnx(self, grid: WindowGrid, *, quantised: bool = False) -> bytes:
        """The ONNX model for a window.

        It takes ``events`` float32 ``(B, 4, T, H, W)`` of 0 and 1 and gives ``change`` float32
        ``(B, channels, T, H, W)``, to be added to the prior log-odds; B is open.

        Args:
            grid: of the window.
            quantised: have the layers that have scales run in 8 bits.

        Raises:
            ModelError: it is to be quantised, and no layer has a scale.
        """
        from onnx import TensorProto, helper, numpy_helper

        if quantised and not self.scales:
            raise ModelError(
                "the network cannot run in 8 bits: its file has no scales; `qdec model quantise` "
                "measures them"
            )
        nodes: list[Any] = []
        constants: dict[str, NDArray[Any]] = {"context": self.context(grid)}

        def rounded(source: str, layer: str) -> str:
            """What a layer is given, and its kernel, in 8 bits and back."""
            weight = f"{layer}.weight"
            constants[f"{weight}.int8"], constants[f"{weight}.scale"] = quantise_kernel(
                self.weights[weight]
            )
            constants[f"{layer}.scale"] = np.array(self.scales[layer], dtype=np.float32)
            constants[f"{layer}.zero"] = np.array(0, dtype=np.uint8)
            by = [f"{layer}.scale", f"{layer}.zero"]
            kernel = [f"{weight}.int8", f"{weight}.scale"]
            nodes.extend(
                (
                    helper.make_node("DequantizeLinear", kernel, [weight], axis=0),
                    helper.make_node("QuantizeLinear", [source, *by], [f"{source}.uint8"]),
                    helper.make_node("DequantizeLinear", [f"{source}.uint8", *by], [f"{source}.8"]),
                )
            )
            return f"{source}.8"

        def conv(source: str, layer: str, output: str = "", *, bias: bool = True) -> str:
            parts = [f"{layer}.weight", *([f"{layer}.bias"] if bias else [])]
            size = list(self.weights[parts[0]].shape[2:])
            if quantised and layer in self.scales:
                source = rounded(source, layer)
                constants.update({part: self.weights[part] for part in parts[1:]})
            else:
                constants.update({part: self.weights[part] for part in parts})
            pads = [n // 2 for n in size] * 2
            output = output or layer
            nodes.append(
                helper.make_node("Conv", [source, *parts], [output], kernel_shape=size, pads=pads)
            )
            return output

        def relu(source: str) -> str:
            nodes.append(helper.make_node("Relu", [source], [f"{source}.relu"]))
            return f"{source}.relu"

        def add(a: str, b: str, name: str) -> str:
            nodes.append(helper.make_node("Add", [a, b], [name]))
            return name

        x = add(conv("events", "events", "seen", bias=False), "context", "stream")
        for k in range(self.arch.blocks):
            inner = relu(conv(relu(x), f"squeeze.{k}"))
            x = add(x, conv(relu(conv(inner, f"look.{k}")), f"widen.{k}"), f"stream.{k}")
        conv(relu(x), "head", "change")
        size = list(grid.shape)
        graph = helper.make_graph(
            nodes,
            "folded",
            [helper.make_tensor_value_info("events", TensorProto.FLOAT, ["batch", 4, *size])],
            [
                helper.make_tensor_value_info(
                    "change", TensorProto.FLOAT, ["batch", self.arch.channels, *size]
                )
            ],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = 8
        return bytes(model.SerializeToString())


def shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The tensors of an architecture, by name."""
    wide, inner = arch.width, arch.inner
    out: dict[str, tuple[int, ...]] = {
        "events.weight": (wide, 4, 3, 3, 3),
        "events.bias": (wide,),
        "static.weight": (wide, arch.static_channels, 3, 3, 3),
        "head.weight": (arch.channels, wide, 1, 1, 1),
        "head.bias": (arch.channels,),
    }
    for k in range(arch.blocks):
        out[f"squeeze.{k}.weight"] = (inner, wide, 1, 1, 1)
        out[f"squeeze.{k}.bias"] = (inner,)
        out[f"look.{k}.weight"] = (inner, inner, 3, 3, 3)
        out[f"look.{k}.bias"] = (inner,)
        out[f"widen.{k}.weight"] = (wide, inner, 1, 1, 1)
        out[f"widen.{k}.bias"] = (wide,)
    return out
