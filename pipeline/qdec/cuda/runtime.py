"""What the executor needs of CUDA: memory, streams, graphs. One interface, on a GPU or emulated.

`qdec.cuda.on_gpu` is the one on a GPU. Tests have one that runs the kernels on the processor, so
that everything but the driver's calls is tried without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qdec.cuda.plan import Arguments, Device, Launch


class Shared(NamedTuple):
    """Memory of the host that kernels read and write where it is.

    Attributes:
        host: the array.
        reach: what kernels are given for it.
    """

    host: NDArray[Any]
    reach: Any


class Graph(Protocol):
    """Launches that were captured together."""

    def launch(self, stream: Any) -> None:
        """Enqueue all of them; nothing is waited for."""


class Mark(Protocol):
    """A place in a stream."""

    @property
    def done(self) -> bool:
        """Whether everything before it has run."""


class Program(Protocol):
    """A network on the device: `qdec.neural.tensorrt.runner.Program`."""

    batches: tuple[int, ...]
    outputs: tuple[str, ...]
    dtypes: dict[str, np.dtype[Any]]

    def prepare(self, shapes: Mapping[str, tuple[int, ...]], stream: int) -> None:
        """See there."""

    def enqueue(self, bucket: int, addresses: Mapping[str, int], stream: int) -> None:
        """See there."""


class Runtime(Protocol):
    """A device. All calls are from one thread.

    Attributes:
        device: what launches are shaped by.
    """

    device: Device

    def register(self, memory: NDArray[np.uint8]) -> Shared:
        """Have kernels reach memory that is there already: whole pages, as long as this lives.

        Raises:
            DeviceError: the system does not lock so much memory.
        """

    def shared(self, shape: tuple[int, ...], dtype: DTypeLike) -> Shared:
        """New memory of the host that kernels reach, zeros.

        Raises:
            DeviceError: the system does not lock so much memory.
        """

    def upload(self, array: NDArray[Any]) -> Any:
        """A copy on the device, as kernels are given it.

        Raises:
            DeviceError: there is no room.
        """

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """An array of the device, as kernels are given it.

        Raises:
            DeviceError: there is no room.
        """

    def address(self, array: Any) -> int:
        """Where an array of the device lies."""

    def stream(self, *, urgent: bool) -> Any:
        """A new stream, of the highest or the lowest priority that there is."""

    def handle(self, stream: Any) -> int:
        """Its ``cudaStream_t``."""

    def launch(self, launch: Launch, arguments: Arguments, stream: Any) -> None:
        """Enqueue a kernel; may be captured."""

    def capture(self, stream: Any, work: Callable[[], None]) -> Graph:
        """What `work` enqueues on a stream, without running it."""

    def wait(self, stream: Any) -> None:
        """Until everything on a stream has run.

        Raises:
            DeviceError: something of it failed.
        """

    def mark(self, stream: Any) -> Mark:
        """The place behind what is on a stream now."""

    def then(self, stream: Any, call: Callable[[], None]) -> None:
        """Call something, in a thread of the driver's, when what is on a stream now has run."""
