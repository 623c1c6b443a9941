"""CUDA as it is: PyCUDA for memory, CuPy for kernels, streams, events and graphs.

Both use the device's primary context, which TensorRT and PyTorch use too; it is made here and kept
for the life of the process. PyCUDA owns what the host and the device share (pinned, mapped), CuPy
what is on the device alone; whoever asked for either holds it by the object that came back, and
addresses are valid as long as that lives. None of this has run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qdec.cuda.launch import Kernels
from qdec.cuda.plan import Arguments, Launch
from qdec.cuda.runtime import Shared
from qdec.errors import EngineError
from qdec.neural.device_faults import device_error


class GpuRuntime:
    """See `qdec.cuda.runtime.Runtime`."""

    def __init__(self, kernels: Path) -> None:
        """Make the context and load the kernels from a folder (``make kernels``).

        Raises:
            EngineError: a library, the driver, a device or a kernel is missing.
        """
        self._kernels = Kernels(kernels)
        self.device = self._kernels.device
        try:
            import cupy
            import pycuda.autoprimaryctx
            import pycuda.driver
        except ImportError as error:
            raise EngineError(f"{error}: pip install 'qdec[gpu]' brings it") from None
        self._cupy, self._driver = cupy, pycuda.driver
        self._context = pycuda.autoprimaryctx.context
        self._kept: list[Any] = []

    def register(self, memory: NDArray[np.uint8]) -> Shared:
        """See `Runtime.register`."""
        flags = self._driver.mem_host_register_flags
        with self.failing():
            known = self._driver.register_host_memory(memory, flags.PORTABLE | flags.DEVICEMAP)
        return self._shared(known)

    def shared(self, shape: tuple[int, ...], dtype: DTypeLike) -> Shared:
        """See `Runtime.shared`."""
        flags = self._driver.host_alloc_flags
        with self.failing():
            made = self._driver.pagelocked_zeros(
                shape, dtype, mem_flags=flags.PORTABLE | flags.DEVICEMAP
            )
        return self._shared(made)

    def _shared(self, array: Any) -> Shared:
        self._kept.append(array)
        return Shared(array, np.uint64(array.base.get_device_pointer()))

    def upload(self, array: NDArray[Any]) -> Any:
        """See `Runtime.upload`."""
        with self.failing():
            return self._cupy.asarray(np.ascontiguousarray(array))

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """See `Runtime.zeros`."""
        with self.failing():
            return self._cupy.zeros(shape, dtype)

    def address(self, array: Any) -> int:
        """See `Runtime.address`."""
        return int(array.data.ptr)

    def stream(self, *, urgent: bool) -> Any:
        """See `Runtime.stream`."""
        with self.failing():
            least, greatest = self._cupy.cuda.runtime.deviceGetStreamPriorityRange()
            priority = greatest if urgent else least
            return self._cupy.cuda.Stream(non_blocking=True, priority=priority)

    def handle(self, stream: Any) -> int:
        """See `Runtime.handle`."""
        return int(stream.ptr)

    def launch(self, launch: Launch, arguments: Arguments, stream: Any) -> None:
        """See `Runtime.launch`."""
        with self.failing():
            self._kernels(launch, arguments, stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """See `Runtime.capture`."""
        with self.failing():
            stream.begin_capture()
            try:
                work()
            finally:
                graph = stream.end_capture()
        return _Graph(self, graph)

    def wait(self, stream: Any) -> None:
        """See `Runtime.wait`."""
        with self.failing():
            stream.synchronize()

    def mark(self, stream: Any) -> Any:
        """See `Runtime.mark`."""
        with self.failing():
            event = self._cupy.cuda.Event(disable_timing=True)
            event.record(stream)
        return _Mark(self, event)

    def then(self, stream: Any, call: Callable[[], None]) -> None:
        """See `Runtime.then`."""
        with self.failing():
            stream.launch_host_func(lambda _: call(), None)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What CUDA says no with, as what it means.

        Raises:
            DeviceError: the memory is not there, or the device failed: nothing that is on it can be
                trusted any more.
        """
        cuda = self._cupy.cuda
        try:
            yield
        except (
            self._driver.Error,
            cuda.memory.OutOfMemoryError,
            cuda.runtime.CUDARuntimeError,
            cuda.driver.CUDADriverError,
        ) as error:
            raise device_error(error) from None


class _Graph:
    def __init__(self, runtime: GpuRuntime, graph: Any) -> None:
        self._runtime, self._graph = runtime, graph

    def launch(self, stream: Any) -> None:
        with self._runtime.failing():
            self._graph.launch(stream)


class _Mark:
    def __init__(self, runtime: GpuRuntime, event: Any) -> None:
        self._runtime, self._event = runtime, event

    @property
    def done(self) -> bool:
        with self._runtime.failing():
            return bool(self._event.done)
