"""Which executor an accelerator has: the GPU's, where networks run in TensorRT and all is there."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from qdec.accelerator.executor import CallingExecutor, Executor, Kind
from qdec.accelerator.gpu import GpuExecutor
from qdec.accelerator.gpu_kinds import GpuKind, gpu_kind
from qdec.bits import Bytes
from qdec.cuda.runtime import Program
from qdec.errors import DeviceError, DeviceFault, EngineError, GeometryError
from qdec.neural.engine import CompiledNetwork, buckets
from qdec.neural.fallback import that_runs
from qdec.neural.tensorrt.runner import TensorRTNetwork

log = logging.getLogger("qdec.accelerator")


def start_executor(
    kinds: Mapping[int, Kind], memory: Bytes, batch: int, *, fallback: bool = True
) -> Executor:
    """Take what is needed to run batches.

    Args:
        kinds: of windows, by number.
        memory: in which all slots lie, from a page's beginning on.
        batch: most windows per call, unless one request has more.
        fallback: call networks one batch at a time, from the host's memory, where what the quicker
            way needs is not there.

    Raises:
        DeviceError: the device fails, or something is not there and must be.
    """
    try:
        on_gpu = _on_gpu(kinds)
        if on_gpu:
            from qdec.cuda.launch import kernels_folder
            from qdec.cuda.on_gpu import GpuRuntime

            runtime = GpuRuntime(kernels_folder())
            return GpuExecutor(runtime, kinds, on_gpu, memory, buckets(batch))
    except DeviceError as error:
        if not fallback or error.kind is not DeviceFault.MEMORY:
            raise
        log.warning("the GPU is called one batch at a time, from the host's memory: %s", error)
    except (EngineError, GeometryError) as error:
        if not fallback:
            raise DeviceError(DeviceFault.START, str(error)) from None
        log.warning("the GPU is called one batch at a time, from the host's memory: %s", error)
    except Exception as error:  # whatever a library of another version raises
        raise DeviceError(DeviceFault.START, f"{type(error).__name__}: {error}") from error
    return CallingExecutor(kinds, batch)


def _on_gpu(kinds: Mapping[int, Kind]) -> dict[int, GpuKind]:
    """The kinds whose networks run in TensorRT."""
    found = {}
    for number, kind in kinds.items():
        one = gpu_kind(kind.decoder, _program)
        if one is not None and isinstance(that_runs(one.network), TensorRTNetwork):
            found[number] = one
    return found


def _program(network: CompiledNetwork, size: tuple[int, int, int]) -> Program:
    network = that_runs(network)
    assert isinstance(network, TensorRTNetwork)
    return network.load(size, may_build=False)
