"""Which executor an accelerator has: the GPU's, where networks run in TensorRT and all is there."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from qdec.accelerator.executor import CallingExecutor, Executor, Kind
from qdec.accelerator.gpu import GpuExecutor
from qdec.accelerator.gpu_kinds import GpuKind, gpu_kind
from qdec.bits import Bytes
from qdec.cuda.runtime import Program
from qdec.errors import EngineError, GeometryError
from qdec.neural.engine import CompiledNetwork, buckets
from qdec.neural.fallback import that_runs
from qdec.neural.tensorrt.runner import TensorRTNetwork

log = logging.getLogger("qdec.accelerator")


def start_executor(kinds: Mapping[int, Kind], memory: Bytes, batch: int) -> Executor:
    """Take what is needed to run batches.

    Args:
        kinds: of windows, by number.
        memory: in which all slots lie, from a page's beginning on.
        batch: most windows per call, unless one request has more.

    Raises:
        DeviceError: the device fails, or has not enough memory.
    """
    try:
        on_gpu = _on_gpu(kinds)
        if on_gpu:
            from qdec.cuda.launch import kernels_folder
            from qdec.cuda.on_gpu import GpuRuntime

            runtime = GpuRuntime(kernels_folder())
            return GpuExecutor(runtime, kinds, on_gpu, memory, buckets(batch))
    except (EngineError, GeometryError) as error:
        log.warning("the GPU is called one batch at a time, from the host's memory: %s", error)
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
