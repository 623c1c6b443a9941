"""The engine interface: compile a network once, run it many times.

A network comes as an ONNX model, whose graph is plain arithmetic on ``(B, C, T, H, W)`` tensors:
batch, channels, rounds, and two directions of space. Nothing here knows what the channels mean.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from qdec.errors import EngineError, ModelError

Floats = NDArray[np.float32]
Engine = Literal["openvino"]
Precision = Literal["fp32", "bf16", "int8"]


_threads = 1


def use_threads(count: int) -> None:
    """Give engines of this process so many threads each, unless their caller says otherwise."""
    global _threads
    _threads = count


class CompiledNetwork(Protocol):
    """A network ready to run. Not for two threads at once."""

    @property
    def channels(self) -> tuple[tuple[int, ...], int]:
        """Channels of each input, and of the output."""
        ...

    def __call__(self, *inputs: Floats) -> Floats:
        """Run it.

        The first call with a new shape takes longer, some tens of milliseconds: warm up.

        Args:
            inputs: float32 ``(B, C_i, T, H, W)``, B >= 0, in the model's order.

        Returns:
            float32 ``(B, C', T, H, W)``, the caller's own. May hold NaN or infinity.

        Raises:
            EngineError: the inputs do not have the model's shape, or the engine failed.
        """
        ...


def compile_network(
    onnx_model: bytes,
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
    engine: Engine = "openvino",
) -> CompiledNetwork:
    """Check an ONNX model and compile it for this machine.

    Args:
        onnx_model: the serialised model; see `qdec.neural.onnx_model.parse_model` for what it may
            hold. It may come from anywhere.
        precision: of floating-point arithmetic; or int8: 8 bits where the model quantises its
            tensors itself, and the quickest floating-point arithmetic for the rest.
        threads: of the engine, the calling one included; what `use_threads` said if None.
        engine: what runs it.

    Raises:
        ModelError: the bytes are no such model, or one for int8 that quantises nothing.
        EngineError: the engine is not there, or does not have the precision on this machine.
    """
    from qdec.neural.onnx_model import parse_model

    threads = _threads if threads is None else threads
    if threads < 1:
        raise EngineError(f"an engine needs at least one thread, not {threads}")
    model = parse_model(onnx_model)
    if engine != "openvino":
        raise EngineError(f"unknown engine '{engine}': there is openvino")
    if precision == "int8" and not model.quantised:
        raise ModelError("the ONNX model cannot run in 8 bits: it quantises none of its tensors")
    from qdec.neural.openvino_engine import OpenVinoNetwork

    return OpenVinoNetwork(model, precision=precision, threads=threads)


def precisions(engine: Engine = "openvino") -> tuple[Precision, ...]:
    """What arithmetic an engine has on this machine, the most exact first, the quickest last.

    int8 is there for models that are prepared for it; see `compile_network`.

    Raises:
        EngineError: the engine is not there.
    """
    if engine != "openvino":
        raise EngineError(f"unknown engine '{engine}': there is openvino")
    from qdec.neural.openvino_engine import supported_precisions

    return supported_precisions()
