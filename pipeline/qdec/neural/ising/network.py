"""Ising's networks: a plain stack of 3-D convolutions, and the five that are published."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.errors import ModelError
from qdec.neural.engine import Floats

# Padding that keeps the size, stride 1, a bias; GELU (tanh) behind every layer but the last.
_OPSET = 20  # the first with Gelu
_IR_VERSION = 10
# Of input and output: X and Z syndromes and presences; c_Z, c_X, m_X, m_Z.
CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Architecture:
    """A stack of convolutions.

    Attributes:
        filters: output channels of each layer; the last is 4.
        kernels: kernel size of each layer, the same in all three directions, odd.
    """

    filters: tuple[int, ...]
    kernels: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what is no such stack.

        Raises:
            ModelError: the layers do not fit.
        """
        if not all(type(n) is int for n in (*self.filters, *self.kernels)):
            raise ModelError("the sizes of a network's layers are whole numbers")
        layers = len(self.filters)
        fits = 1 <= layers <= 32 and layers == len(self.kernels) and self.filters[-1] == CHANNELS
        if not fits or not all(1 <= n <= 4096 for n in self.filters):
            raise ModelError(f"a stack of layers with {self.filters} filters is no Ising network")
        if not all(k % 2 and 1 <= k <= 15 for k in self.kernels):
            raise ModelError(f"kernels of {self.kernels}: need odd sizes up to 15")

    @property
    def receptive_field(self) -> int:
        """Rounds (and cells in either direction) that one output depends on: R."""
        return 1 + sum(k - 1 for k in self.kernels)

    @property
    def halo(self) -> int:
        """Rounds on either side that an output depends on: (R - 1) / 2."""
        return self.receptive_field // 2

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of each layer's weights: (out, in, k, k, k)."""
        inputs = (CHANNELS, *self.filters[:-1])
        return tuple(
            (n_out, n_in, k, k, k)
            for n_out, n_in, k in zip(self.filters, inputs, self.kernels, strict=True)
        )

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(int(np.prod(shape)) + shape[0] for shape in self.shapes)


def _stack(width: int, depth: int, kernel: int) -> Architecture:
    return Architecture((width,) * depth + (CHANNELS,), (kernel,) * (depth + 1))


PUBLISHED = {
    1: _stack(128, 3, 3),  # "Fast"
    2: _stack(256, 3, 3),
    3: _stack(128, 3, 5),
    4: _stack(128, 5, 3),  # "Accurate"
    5: _stack(256, 5, 3),
}


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of a stack, layer by layer.

    Attributes:
        architecture: what they are of.
        kernels: float32 ``(out, in, k, k, k)`` each.
        biases: float32 ``(out,)`` each.
    """

    architecture: Architecture
    kernels: tuple[Floats, ...]
    biases: tuple[Floats, ...]


def weights_of(architecture: Architecture, tensors: Mapping[str, NDArray[np.generic]]) -> Weights:
    """Recognise a stack's parameters among named tensors.

    The names in published files are not fixed, beyond being those of a PyTorch stack of layers. So
    any will do: tensors of five dimensions are kernels and those of one are biases, in the order of
    their names (numbers in them counted as numbers), and they must have the stack's shapes.

    Raises:
        ModelError: there are others, or too few, or of another shape or type, or not finite.
    """
    names = sorted(tensors, key=_natural)
    kernels = [name for name in names if tensors[name].ndim == 5]
    biases = [name for name in names if tensors[name].ndim == 1]
    layers = len(architecture.filters)
    if (len(kernels), len(biases), len(names)) != (layers, layers, 2 * layers):
        raise ModelError(
            f"{len(kernels)} kernels and {len(biases)} biases among {len(names)} tensors; a stack "
            f"of {layers} layers has {layers} of each and nothing else"
        )
    for name, shape in zip(kernels, architecture.shapes, strict=True):
        _check(name, tensors[name], shape)
    for name, shape in zip(biases, architecture.shapes, strict=True):
        _check(name, tensors[name], shape[:1])
    return Weights(
        architecture,
        tuple(tensors[name].astype(np.float32) for name in kernels),
        tuple(tensors[name].astype(np.float32) for name in biases),
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(one), "") if one.isdecimal() else (1, 0, one) for one in parts]


def _check(name: str, tensor: NDArray[np.generic], shape: Sequence[int]) -> None:
    if tensor.shape != tuple(shape):
        raise ModelError(f"the tensor '{name[:80]}' has shape {tensor.shape}, not {tuple(shape)}")
    if tensor.dtype not in (np.float16, np.float32):
        raise ModelError(f"the tensor '{name[:80]}' is of type {tensor.dtype}, not float16 or 32")
    if not np.isfinite(tensor).all():
        raise ModelError(f"the tensor '{name[:80]}' holds values that are not finite")


def to_onnx(weights: Weights) -> bytes:
    """The network as an ONNX model ``x (B, 4, T, D, D)`` → ``logits``, all but 4 left open."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors = [], []
    at = "x"
    layers = len(weights.kernels)
    for i, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True)):
        tensors.append(numpy_helper.from_array(kernel, f"kernel{i}"))
        tensors.append(numpy_helper.from_array(bias, f"bias{i}"))
        last = i == layers - 1
        out = "logits" if last else f"layer{i}"
        pads = [kernel.shape[-1] // 2] * 6
        inputs = [at, f"kernel{i}", f"bias{i}"]
        nodes.append(helper.make_node("Conv", inputs, [out], pads=pads))
        if not last:
            at = f"active{i}"
            nodes.append(helper.make_node("Gelu", [out], [at], approximate="tanh"))
    shape: list[int | str | None] = ["batch", CHANNELS, "rounds", "rows", "columns"]
    graph = helper.make_graph(
        nodes,
        "ising",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        tensors,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    content: bytes = model.SerializeToString()
    return content
