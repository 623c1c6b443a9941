"""CUDA as far as the executor uses it, on the processor: real kernels, streams that wait."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from helpers.emulated import emulation
from qdec.cuda.plan import Arguments, Device, Launch
from qdec.cuda.runtime import Shared
from qdec.errors import DeviceError, DeviceFault
from qdec.neural.engine import CompiledNetwork

Work = Callable[[], None]


@dataclass(eq=False)
class Stream:
    """Work in order, done when somebody says so."""

    waiting: deque[Work] = field(default_factory=deque)
    queued: int = 0
    done: int = 0

    def add(self, work: Work) -> None:
        self.waiting.append(work)
        self.queued += 1

    def run(self, most: int = 1 << 60) -> None:
        """Do the next things that wait."""
        while self.waiting and most > 0:
            work = self.waiting.popleft()
            work()
            self.done += 1
            most -= 1


@dataclass(eq=False)
class Mark:
    stream: Stream
    at: int
    eager: bool

    @property
    def done(self) -> bool:
        if self.eager:
            self.stream.run()
        return self.stream.done >= self.at


@dataclass(eq=False)
class Graph:
    work: list[Work]

    def launch(self, stream: Stream) -> None:
        for one in self.work:
            stream.add(one)


class EmulatedRuntime:
    """See `qdec.cuda.runtime.Runtime`.

    Attributes:
        eager: a stream runs when somebody asks whether it is done; else when a test says so.
        room: bytes of the device.
        streams: all that were made.
    """

    def __init__(self, *, eager: bool = True, room: int = 1 << 30) -> None:
        self.device = Device(4)
        self.eager = eager
        self.room = room
        self.streams: list[Stream] = []
        self._capturing: list[Work] | None = None

    def register(self, memory: NDArray[np.uint8]) -> Shared:
        assert memory.ctypes.data % 4096 == 0
        return Shared(memory, memory)

    def shared(self, shape: tuple[int, ...], dtype: DTypeLike) -> Shared:
        array = np.zeros(shape, dtype)
        return Shared(array, array)

    def upload(self, array: NDArray[Any]) -> NDArray[Any]:
        return self._take(np.ascontiguousarray(array).copy())

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        return self._take(np.zeros(shape, dtype))

    def _take(self, array: NDArray[Any]) -> NDArray[Any]:
        self.room -= array.nbytes
        if self.room < 0:
            raise DeviceError(DeviceFault.MEMORY, "the device is full")
        return array

    def address(self, array: NDArray[Any]) -> int:
        return array.ctypes.data

    def stream(self, *, urgent: bool) -> Stream:
        assert urgent
        self.streams.append(Stream())
        return self.streams[-1]

    def handle(self, stream: Stream) -> int:
        return self.streams.index(stream) + 1

    def do(self, work: Work, stream: Stream) -> None:
        """Enqueue or capture something."""
        if self._capturing is not None:
            self._capturing.append(work)
        else:
            stream.add(work)

    def launch(self, launch: Launch, arguments: Arguments, stream: Stream) -> None:
        self.do(lambda: emulation()(launch, arguments), stream)

    def capture(self, stream: Stream, work: Work) -> Graph:
        self._capturing = []
        work()
        captured, self._capturing = self._capturing, None
        return Graph(captured)

    def wait(self, stream: Stream) -> None:
        stream.run()

    def mark(self, stream: Stream) -> Mark:
        return Mark(stream, stream.queued, self.eager)

    def then(self, stream: Stream, call: Work) -> None:
        if self.eager:
            call()  # so that whoever waits for it looks
        else:
            stream.add(call)


class EmulatedProgram:
    """A compiled network at addresses of the "device"."""

    outputs = ("y",)

    def __init__(
        self,
        runtime: EmulatedRuntime,
        network: CompiledNetwork,
        batches: tuple[int, ...],
        dtype: DTypeLike,
    ) -> None:
        self._runtime, self._network = runtime, network
        self.batches = batches
        self.dtypes = {"x": np.dtype(dtype), "y": np.dtype(dtype)}
        self._shape: tuple[int, ...] = ()

    def prepare(self, shapes: Mapping[str, tuple[int, ...]], stream: int) -> None:
        assert stream > 0
        self._shape = shapes["x"]

    def enqueue(self, bucket: int, addresses: Mapping[str, int], stream: int) -> None:
        batch = self.batches[bucket]
        channels = self._network.channels[1]
        x = _at(addresses["x"], (batch, *self._shape), self.dtypes["x"])
        y = _at(addresses["y"], (batch, channels, *self._shape[1:]), self.dtypes["y"])

        def run() -> None:
            y[:] = self._network(x.astype(np.float32))

        self._runtime.do(run, self._runtime.streams[stream - 1])


def _at(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    size = int(np.prod(shape)) * dtype.itemsize
    memory = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
