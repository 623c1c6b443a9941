"""The device as the sections see it: programs, times by events, rates, what runs the networks."""

from __future__ import annotations

import mmap
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from on_gpu.cases import BATCHES, Size
from qdec.bits import Bytes
from qdec.cuda.runtime import Program, Runtime
from qdec.errors import EngineError
from qdec.neural import driver
from qdec.neural.engine import Choice, CompiledNetwork, Engine, why_not
from qdec.neural.onnx_model import parse_model

_COPIED = 256 << 20
_GEMM = 8192
_GRAPH_US, _TIMED_US = 4e3, 2e5  # what is captured together, and how long it is repeated


def pages(size: int) -> Bytes:
    """Memory that begins with a page, zeros, as slots lie in."""
    return np.frombuffer(mmap.mmap(-1, -(-size // 65536) * 65536), dtype=np.uint8)


class Lab(ABC):
    """What sections ask of a device; tests have one that runs on the processor.

    Attributes:
        runtime: the executor's.
        batches: that programs are made for.
        engine: what a service is told to use.
        card: the driver's name for it.
        ran: what ran the network of each (content, size), in words.
    """

    runtime: Runtime
    batches: tuple[int, ...] = BATCHES
    engine: str
    card: str

    def __init__(self) -> None:
        """Nothing has run."""
        self.ran: dict[tuple[bytes, Size], str] = {}

    @abstractmethod
    def program(self, content: bytes, size: Size) -> Program:
        """A network for the executor's graph: TensorRT, else PyTorch.

        Raises:
            EngineError: neither can be had.
        """

    @abstractmethod
    def torch(self, content: bytes, size: Size) -> Program | None:
        """The same in PyTorch, to stand beside; None where there is none."""

    @abstractmethod
    def network(self, content: bytes, engine: Engine) -> CompiledNetwork:
        """A network called with arrays of the host: ``tensorrt``, ``torch`` or ``openvino``, for
        which PyTorch stands in on the processor where there is none: fp32 is fp32.

        Raises:
            EngineError: it cannot be had.
        """

    @abstractmethod
    def span(self, stream: Any, work: Callable[[], None]) -> float:
        """µs between two events around what is enqueued."""

    @abstractmethod
    def rates(self) -> tuple[float, float]:
        """Bytes per second, measured: of a copy on the device (read and written), and from the
        host's pinned memory.
        """

    @abstractmethod
    def macs_rate(self) -> float | None:
        """Multiplications with addition per second of a large fp16 product; None: not measured."""

    def timed(self, stream: Any, work: Callable[[], None]) -> list[float]:
        """µs of something that can be captured, which has run before: several times (up to twenty)
        in one graph, so that launching it does not count.
        """
        once = self.span(stream, work)
        each = int(min(20, max(1, _GRAPH_US // max(once, 1.0))))

        def several() -> None:
            for _ in range(each):
                work()

        graph = self.runtime.capture(stream, several)
        graph.launch(stream)
        self.runtime.wait(stream)
        repeats = int(min(15, max(3, _TIMED_US // max(once * each, 1.0))))
        return [self.span(stream, lambda: graph.launch(stream)) / each for _ in range(repeats)]


class GpuLab(Lab):
    """On a GPU. Has not run on one yet."""

    def __init__(self, engine: str = "auto") -> None:
        """Make the context.

        Args:
            engine: ``tensorrt``, ``torch``, or ``auto``: the first of them that can be had.

        Raises:
            EngineError: a GPU, a library, the kernels or the engine are missing.
        """
        super().__init__()
        self.card = driver.devices()[0].name
        self.engine = _engine(engine)
        from qdec.cuda.launch import kernels_folder
        from qdec.cuda.on_gpu import GpuRuntime

        self.runtime = GpuRuntime(kernels_folder())
        import cupy

        self._cupy = cupy
        self._torch: dict[bytes, Any] = {}

    def program(self, content: bytes, size: Size) -> Program:
        """See `Lab.program`."""
        why = "TensorRT is missing" if why_not("tensorrt") else "as asked for"
        if self.engine == "tensorrt":
            from qdec.neural.tensorrt.api import tensorrt
            from qdec.neural.tensorrt.cache import default_folder
            from qdec.neural.tensorrt.runner import load

            try:
                program = load(recipe(content, size), default_folder(), may_build=False)
                api = tensorrt()
                self.ran[content, size] = f"{api.flavour} {api.version} fp16"
                return program
            except EngineError as error:
                why = str(error).split(":")[0][:60]
        made = self.torch(content, size)
        if made is None:
            raise EngineError(f"{why}; {why_not('torch')}")
        self.ran[content, size] = f"torch fp16 ({why})"
        return made

    def torch(self, content: bytes, size: Size) -> Program | None:
        """See `Lab.torch`."""
        if why_not("torch"):
            return None
        from on_gpu.torch_program import TorchProgram
        from qdec.neural.torch_engine import TorchNetwork

        if content not in self._torch:
            self._torch[content] = TorchNetwork(
                parse_model(content), precision="fp16", threads=1, device="cuda"
            )
        return TorchProgram(self._torch[content], self.batches, half=True)

    def network(self, content: bytes, engine: Engine) -> CompiledNetwork:
        """See `Lab.network`."""
        model = parse_model(content)
        if why := why_not(engine):
            if engine != "openvino":
                raise EngineError(why)
            from qdec.neural.torch_engine import TorchNetwork

            return TorchNetwork(model, precision="fp32", threads=8, device="cpu")
        if engine == "tensorrt":
            from qdec.neural.tensorrt.runner import TensorRTNetwork

            return TensorRTNetwork(model, precision="fp16", batches=self.batches)
        if engine == "torch":
            from qdec.neural.torch_engine import TorchNetwork

            return TorchNetwork(model, precision="fp16", threads=1, device="cuda")
        from qdec.neural.engine import compile_network

        return compile_network(content, engine="openvino", precision="fp32", threads=8)

    def span(self, stream: Any, work: Callable[[], None]) -> float:
        """See `Lab.span`."""
        cuda = self._cupy.cuda
        begin, end = cuda.Event(), cuda.Event()
        begin.record(stream)
        work()
        end.record(stream)
        end.synchronize()
        return float(cuda.get_elapsed_time(begin, end)) * 1e3

    def rates(self) -> tuple[float, float]:
        """See `Lab.rates`."""
        cupy, stream = self._cupy, self.runtime.stream(urgent=True)
        a, b = self.runtime.zeros((_COPIED,), np.uint8), self.runtime.zeros((_COPIED,), np.uint8)
        host = self.runtime.shared((_COPIED // 4,), np.uint8)
        memcpy, kinds = cupy.cuda.runtime.memcpyAsync, cupy.cuda.runtime
        inside = [
            self.span(
                stream,
                lambda: memcpy(
                    a.data.ptr, b.data.ptr, _COPIED, kinds.memcpyDeviceToDevice, stream.ptr
                ),
            )
            for _ in range(10)
        ]
        across = [
            self.span(
                stream,
                lambda: memcpy(
                    a.data.ptr,
                    host.host.ctypes.data,
                    host.host.nbytes,
                    kinds.memcpyHostToDevice,
                    stream.ptr,
                ),
            )
            for _ in range(5)
        ]
        return (
            2e6 * _COPIED / statistics.median(inside),
            1e6 * host.host.nbytes / statistics.median(across),
        )

    def macs_rate(self) -> float | None:
        """See `Lab.macs_rate`."""
        if why_not("torch"):
            return None
        import torch

        a = torch.randn(_GEMM, _GEMM, device="cuda", dtype=torch.float16)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(3):
            torch.mm(a, a)
        begin.record()
        for _ in range(10):
            torch.mm(a, a)
        end.record()
        end.synchronize()
        return 10 * _GEMM**3 / (begin.elapsed_time(end) / 1e3)


def recipe(content: bytes, size: Size, batches: Sequence[int] = BATCHES) -> Any:
    """Of the plan that the service would use."""
    from qdec.neural.tensorrt.build import Recipe

    return Recipe(content, size, tuple(batches), "fp16")


_ON_GPU: tuple[Engine, ...] = ("tensorrt", "torch")


def _engine(wanted: Choice) -> Engine:
    """TensorRT or PyTorch.

    Raises:
        EngineError: what is wanted cannot be had.
    """
    why = {one: why_not(one) for one in _ON_GPU}
    if wanted == "auto":
        found = next((one for one in why if not why[one]), None)
        if found is None:
            raise EngineError("; ".join(why.values()))
        return found
    if why[wanted]:
        raise EngineError(why[wanted])
    return wanted


def is_there() -> str:
    """Why nothing can be measured here; empty if it can."""
    try:
        driver.devices()
    except EngineError as error:
        return str(error)
    return ""
