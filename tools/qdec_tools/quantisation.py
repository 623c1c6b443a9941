"""Post-training quantisation of a network: scales from what its layers are given, and its price.

Layers are given what windows drawn from the fault model make of them; a layer's scale has its
largest input at the last of the steps (clipping more, at the 99.99th percentile, was measured to
cost ten times the likelihood). What 8 bits cost is measured on other windows, as training measures
it: minus the log of the probability that the network gives to the edges that did flip and those
that did not, in nats per window. Layers that cost too much stay in floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qdec.neural.engine import CompiledNetwork, compile_network
from qdec.neural.folded import Architecture
from qdec.neural.folded_model import FoldedModel
from qdec.neural.grid import Lattice, WindowGrid
from qdec.neural.network import Network
from qdec.neural.quantised import ACTIVATION_STEPS, SMALLEST, quantisable
from qdec.windows.cut import cut, merge_parallel
from qdec_tools.model_export import Wish
from qdec_tools.training.sampler import Sampler

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
# Small and large, both bases, whole shots and mid-stream, little noise and much.
KINDS = (
    Wish(3, 4, "Z", 0.006, whole=True),
    Wish(5, 6, "X", 0.003, whole=True),
    Wish(5, 12, "Z", 0.006),
    Wish(7, 8, "X", 0.009, whole=True),
    Wish(9, 10, "Z", 0.006, whole=True),
)
_AT_ONCE = 64
_CALIBRATION, _CHECK = 1, 2  # seeds

Advance = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows of one kind.

    Attributes:
        wish: which.
        grid: of the window.
        events: ``(B, 4, T, H, W)`` uint8.
        labels: ``(B, len(grid.places))`` bool: the edges of which an odd number of faults happened.
    """

    wish: Wish
    grid: WindowGrid
    events: Bytes
    labels: NDArray[np.bool_]

    def through(self, network: CompiledNetwork) -> Iterator[tuple[slice, Floats]]:
        """What a network says of them, some at a time."""
        for start in range(0, len(self.events), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            yield some, network(self.events[some].astype(np.float32))


@dataclass(frozen=True, slots=True)
class Price:
    """What 8 bits cost, by kind of window, in nats per window.

    Attributes:
        floating: loss in floating point.
        quantised: loss in 8 bits.
    """

    floating: tuple[float, ...]
    quantised: tuple[float, ...]

    @property
    def rise(self) -> float:
        """How much more of its loss the kind has that suffers most; infinite where it has none."""
        pairs = zip(self.floating, self.quantised, strict=True)
        worst = max((after / before - 1 for before, after in pairs), default=np.inf)
        return worst if np.isfinite(self.quantised).all() else np.inf


def draw(arch: Architecture, windows: int, *, check: bool) -> tuple[Examples, ...]:
    """Windows of each kind, the same every time; those to check with are others.

    Raises:
        CodeError: the network was made for other codes.
    """
    return tuple(
        _examples(
            arch, wish, windows, np.random.default_rng([_CHECK if check else _CALIBRATION, i])
        )
        for i, wish in enumerate(KINDS)
    )


def calibrate(
    network: Network, examples: tuple[Examples, ...], advance: Advance = lambda: None
) -> dict[str, float]:
    """Scales of all layers that can be quantised, and are ever given anything but zeros.

    Raises:
        EngineError: the engine cannot run the network.
    """
    layers = quantisable(network.arch)
    peaks = np.zeros(len(layers))
    for some in examples:
        seen = compile_network(_inner(network, some.grid), precision="fp32")
        for _, inputs in some.through(seen):
            by_layer = np.moveaxis(inputs, 1, 0).reshape(len(layers), -1)
            np.maximum(peaks, by_layer.max(axis=1), out=peaks)
        advance()
    found = zip(layers, (peaks / ACTIVATION_STEPS).tolist(), strict=True)
    return {layer: scale for layer, scale in found if scale >= SMALLEST}


def control(
    network: Network,
    scales: Mapping[str, float],
    examples: tuple[Examples, ...],
    tolerance: float,
    advance: Advance = lambda: None,
) -> tuple[Network, Price]:
    """Quantise all layers that can afford it.

    Where all together cost too much, those stay in floating point that cost most by themselves.

    Args:
        network: the weights.
        scales: of the layers to quantise, at least one.
        examples: windows that the scales do not come from.
        tolerance: rise of the loss that is allowed, as a share of it.
        advance: called after each kind of window.

    Returns:
        The network with the scales of those layers, none if not even one layer can, and what the
        last try cost.

    Raises:
        ModelError: a scale is none.
        EngineError: this processor does not have 8 bits.
    """
    floating = losses(FoldedModel(replace(network, scales={})), examples, advance)

    def priced(some: Mapping[str, float]) -> tuple[Network, Price]:
        one = replace(network, scales=dict(some))
        return one, Price(floating, losses(FoldedModel(one, "int8"), examples, advance))

    left = dict(scales)
    found = priced(left)
    if found[1].rise > tolerance:
        alone = {layer: priced({layer: scale})[1].rise for layer, scale in left.items()}
        for layer in sorted(alone, key=lambda one: -alone[one])[:-1]:
            del left[layer]
            found = priced(left)
            if found[1].rise <= tolerance:
                break
    afforded, price = found
    return (afforded if price.rise <= tolerance else replace(network, scales={})), price


def losses(
    model: FoldedModel, examples: tuple[Examples, ...], advance: Advance = lambda: None
) -> tuple[float, ...]:
    """Nats per window of each kind.

    Raises:
        ModelError: the model has no scales, and is to run in 8 bits.
        EngineError: the engine cannot run it on this machine.
    """
    found = []
    for some in examples:
        total = 0.0
        for which, change in some.through(model.compile(some.grid)):
            odds = change.reshape(len(change), -1)[:, some.grid.places] + some.grid.prior
            total += float((np.logaddexp(0, odds) - odds * some.labels[which]).sum())
        found.append(total / len(some.events))
        advance()
    return tuple(found)


def _examples(arch: Architecture, wish: Wish, windows: int, rng: np.random.Generator) -> Examples:
    code, window = wish.window()
    problem = cut(code.spacetime, window)
    grid = Lattice(code, arch.classes).grid(window, problem, merge_parallel(problem))
    events, labels = Sampler(problem, grid, arch.channels).sample(windows, rng)
    return Examples(wish, grid, events, labels.reshape(windows, -1)[:, grid.places] > 0)


def _inner(network: Network, grid: WindowGrid) -> bytes:
    """A model that gives what the quantisable layers are given, one after another by channels."""
    from onnx import TensorProto, helper, load_model_from_string

    proto = load_model_from_string(network.onnx(grid))
    kernels = {f"{layer}.weight" for layer in quantisable(network.arch)}
    given = [
        node.input[0]
        for node in proto.graph.node
        if node.op_type == "Conv" and node.input[1] in kernels
    ]
    proto.graph.node.append(helper.make_node("Concat", given, ["given"], axis=1))
    shape: list[str | int | None] = ["batch", len(given) * network.arch.inner, *grid.shape]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("given", TensorProto.FLOAT, shape))
    return bytes(proto.SerializeToString())
