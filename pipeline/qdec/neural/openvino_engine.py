"""OpenVINO on the CPU: the engine that runs everywhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qdec.errors import EngineError
from qdec.neural.onnx_model import Model, check_inputs

if TYPE_CHECKING:
    from qdec.neural.engine import Floats, Precision

_HINT = {"fp32": "f32", "bf16": "bf16"}
# Linux's names of instructions that sum products of 8 bits in 32. On other x86 processors OpenVINO
# sums pairs of them in 16, which overflow silently.
_DOT_PRODUCTS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))


@cache
def _core() -> Any:
    """The process's OpenVINO, made when first asked for: importing it takes a while."""
    try:
        import openvino
    except ImportError as error:
        raise EngineError(f"OpenVINO cannot be loaded: {error}") from None
    return openvino.Core()


@cache
def supported_precisions() -> tuple[Precision, ...]:
    """fp32 always; bf16 and int8 where the CPU has instructions for them."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found: list[Precision] = ["fp32"]
    if "BF16" in capabilities:
        found.append("bf16")
    if "INT8" in capabilities and _DOT_PRODUCTS & _cpu_flags():
        found.append("int8")
    return tuple(found)


def _cpu_flags() -> frozenset[str]:
    """What Linux calls the CPU's instructions; none elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(next((line for line in text.splitlines() if line[:5] == "flags"), "").split())


class OpenVinoNetwork:
    """A network compiled for the CPU. See `CompiledNetwork`."""

    def __init__(self, model: Model, *, precision: Precision, threads: int) -> None:
        """Compile.

        Raises:
            EngineError: this CPU does not have the precision, or OpenVINO refuses the model.
        """
        from io import BytesIO

        if precision not in supported_precisions():
            raise EngineError(
                f"precision '{precision}' is not to be had on this CPU: it has "
                f"{', '.join(supported_precisions())}"
            )
        floating = [one for one in supported_precisions() if one in _HINT]
        hint = _HINT[floating[-1] if precision == "int8" else precision]
        self._model = model
        options = {
            "INFERENCE_NUM_THREADS": threads,
            # Pinned threads of two networks would share one core and leave another idle.
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
        }
        try:
            read = _core().read_model(BytesIO(model.content))
            self._request = _core().compile_model(read, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile the model: {_last_line(error)}") from None

    @property
    def channels(self) -> tuple[tuple[int, ...], int]:
        """Channels of each input, and of the output."""
        return tuple(shape[0] for shape in self._model.inputs), self._model.channels

    @property
    def convolutions(self) -> tuple[tuple[str, str], ...]:
        """What OpenVINO made of each convolution: (kernel, type that it is given).

        Such as ``("brgconv_avx512_I8", "u8")``; there to be measured and tested, not relied on.
        """
        graph = self._request.get_compiled_model().get_runtime_model()
        known = [operation.get_rt_info() for operation in graph.get_ordered_ops()]
        return tuple(
            (one["primitiveType"].value, one["runtimePrecision"].value)
            for one in known
            if one["layerType"].value == "Convolution"
        )

    def __call__(self, *inputs: Floats) -> Floats:
        """See `CompiledNetwork.__call__`."""
        check_inputs(self._model, inputs)
        batch, _, *size = inputs[0].shape
        if not batch:
            return np.zeros((0, self._model.channels, *size), dtype=np.float32)
        tensors = [np.ascontiguousarray(one) for one in inputs]
        try:
            # Shared, since a tensor that OpenVINO once borrowed cannot grow to a larger batch.
            results = self._request.infer(tensors, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {_last_line(error)}") from None
        return np.array(results[0])  # a copy: the next call writes into the same memory


def _last_line(error: Exception) -> str:
    """OpenVINO puts the reason last, behind the places in its sources that passed it on."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
