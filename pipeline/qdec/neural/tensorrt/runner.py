"""Plans at work: on a stream of the caller's, or with arrays in the host's memory.

The caller's GPU memory and stream come in as plain integers (addresses, a ``cudaStream_t``): who
owns them (CuPy, PyCUDA) does not matter as long as all use the device's primary context. None of
this has run on a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdec.errors import EngineError
from qdec.neural.device_faults import device_error
from qdec.neural.onnx_model import Model, check_inputs
from qdec.neural.tensorrt import cache
from qdec.neural.tensorrt.api import Api, logger, ready
from qdec.neural.tensorrt.build import Precision, Recipe, build, here

log = logging.getLogger("qdec.neural")
Floats = NDArray[np.float32]


class Program:
    """A plan that was loaded: one execution context for each batch. Not for two threads at once."""

    def __init__(self, api: Api, plan: bytes, batches: tuple[int, ...]) -> None:
        """Load.

        Raises:
            ForeignPlan: TensorRT does not take the plan, or it has other profiles.
            EngineError: the GPU does not have the memory.
        """
        trt, self._said = api.module, list[str]()
        self._logger = logger(api, self._said)
        self._runtime = trt.Runtime(self._logger)  # which the engine does not keep alive
        self._engine = engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None or engine.num_optimization_profiles != len(batches):
            raise ForeignPlan(f"the plan is not for this GPU or TensorRT: {self._why()}")
        self.batches = batches
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        is_input = {one: engine.get_tensor_mode(one) == trt.TensorIOMode.INPUT for one in names}
        self.outputs = tuple(one for one in names if not is_input[one])
        half: np.dtype[Any] = np.dtype(np.float16)
        kinds = {trt.DataType.FLOAT: np.dtype(np.float32), trt.DataType.HALF: half}
        self.dtypes: dict[str, np.dtype[Any]] = {
            one: kinds[engine.get_tensor_dtype(one)] for one in names
        }
        self._contexts: list[Any] = []

    def prepare(self, shapes: Mapping[str, tuple[int, ...]], stream: int) -> None:
        """Make the contexts, each with its batch's shapes; takes GPU memory for all of them.

        Args:
            shapes: of each input, without the batch.
            stream: on which the profiles are chosen; to be synchronised afterwards.

        Raises:
            EngineError: the memory is not there, or a shape is outside the profiles.
        """
        for at, batch in enumerate(self.batches):
            context = self._engine.create_execution_context()
            if context is None:
                raise EngineError(
                    f"the GPU has no memory for batches of {batch}: {self._why()}; choose smaller "
                    "ones (batch under [accelerator])"
                )
            if not context.set_optimization_profile_async(at, stream):
                raise EngineError(f"profile {at} of the plan cannot be chosen: {self._why()}")
            for name, shape in shapes.items():
                if not context.set_input_shape(name, (batch, *shape)):
                    raise EngineError(
                        f"{(batch, *shape)} is outside the plan's profiles: {self._why()}"
                    )
            self._contexts.append(context)

    def bucket(self, batch: int) -> int:
        """Which of `batches` a number of windows runs as: the smallest that holds it.

        Raises:
            EngineError: there is none.
        """
        for at, size in enumerate(self.batches):
            if batch <= size:
                return at
        raise EngineError(
            f"{batch} windows at once are outside the plan's profiles, which go up to "
            f"{self.batches[-1]}"
        )

    def enqueue(self, bucket: int, addresses: Mapping[str, int], stream: int) -> None:
        """Run asynchronously; may be captured into a graph.

        Args:
            bucket: see `bucket`; every tensor has that batch's size.
            addresses: of each tensor in the GPU's memory, by name, contiguous, of type `dtypes`.
            stream: a ``cudaStream_t``, not the default stream.

        Raises:
            EngineError: TensorRT refuses.
        """
        context = self._contexts[bucket]
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT takes no address for '{name}': {self._why()}")
        if not context.execute_async_v3(stream):
            raise EngineError(f"TensorRT failed: {self._why()}")

    def _why(self) -> str:
        return self._said[-1].strip()[:300] if self._said else "it does not say why"


class ForeignPlan(EngineError):
    """A plan that this TensorRT does not take on this GPU."""


def load(recipe: Recipe, folder: Path, *, may_build: bool) -> Program:
    """The recipe's plan, from the cache or built and kept there.

    Args:
        recipe: of what.
        folder: of plans.
        may_build: build what is missing or not to be trusted: tens of seconds.

    Raises:
        EngineError: TensorRT or a GPU is missing, or the plan is and may not be built.
    """
    api = ready()
    key = cache.key_of(recipe, api, *here(api))
    plan, problem = cache.read(folder, key)
    if plan is not None:
        try:
            return Program(api, plan, recipe.batches)
        except ForeignPlan as error:
            problem = f"{cache.path_of(folder, key)}: {error}"
    if problem:
        log.warning("%s; it is not used", problem)
    if not may_build:
        raise EngineError(
            f"there is no plan for windows of {recipe.size} in {recipe.precision}: make it with "
            "`qdec engine build`; nothing is built while windows are decoded"
        )
    log.info("builds a plan for windows of %s, batches %s", recipe.size, list(recipe.batches))
    plan = build(recipe)
    cache.write(folder, key, plan)
    return Program(api, plan, recipe.batches)


class TensorRTNetwork:
    """A network that runs in TensorRT, given arrays in the host's memory. See `CompiledNetwork`."""

    def __init__(
        self,
        model: Model,
        *,
        precision: Precision,
        batches: tuple[int, ...],
        folder: Path | None = None,
    ) -> None:
        """Prepare what has a fixed size; other sizes when they first come.

        Raises:
            EngineError: see `load`.
        """
        ready()
        self._model, self._precision, self._batches = model, precision, batches
        self._folder = folder or cache.default_folder()
        self._programs: dict[tuple[int, int, int], Program] = {}
        with _gpu_errors():
            self._stream = _cupy().cuda.Stream(non_blocking=True)
        _, rounds, height, width = model.inputs[0]
        if rounds and height and width:
            self.program((rounds, height, width), may_build=True)

    @property
    def channels(self) -> tuple[tuple[int, ...], int]:
        """Channels of each input, and of the output."""
        return tuple(shape[0] for shape in self._model.inputs), self._model.channels

    def program(self, size: tuple[int, int, int], *, may_build: bool) -> Program:
        """What runs windows of (rounds, height, width) asynchronously.

        Raises:
            EngineError: see `load`.
        """
        if size not in self._programs:
            program = self.load(size, may_build=may_build)
            named = zip(self._model.names, self.channels[0], strict=True)
            shapes = {name: (channels, *size) for name, channels in named}
            with _gpu_errors():
                program.prepare(shapes, self._stream.ptr)
                self._stream.synchronize()
            self._programs[size] = program
        return self._programs[size]

    def load(self, size: tuple[int, int, int], *, may_build: bool) -> Program:
        """Another program for windows of (rounds, height, width), for a stream of its own.

        Raises:
            EngineError: see `load`.
        """
        recipe = Recipe(self._model.content, size, self._batches, self._precision)
        return load(recipe, self._folder, may_build=may_build)

    def __call__(self, *inputs: Floats) -> Floats:
        """See `CompiledNetwork.__call__`."""
        from qdec.neural.engine import may_build

        check_inputs(self._model, inputs)
        total, _, *size = inputs[0].shape
        out = np.empty((total, self._model.channels, *size), dtype=np.float32)
        if not total:
            return out
        rounds, height, width = size
        program = self.program((rounds, height, width), may_build=may_build())
        most = program.batches[-1]
        for start in range(0, total, most):
            part = slice(start, min(start + most, total))
            out[part] = self._run(program, [one[part] for one in inputs])
        return out

    def _run(self, program: Program, inputs: list[Floats]) -> Floats:
        cupy, count = _cupy(), len(inputs[0])
        bucket = program.bucket(count)
        batch = program.batches[bucket]
        size = inputs[0].shape[2:]
        (output,) = program.outputs
        with _gpu_errors(), self._stream:
            held = {}
            for name, host in zip(self._model.names, inputs, strict=True):
                held[name] = cupy.zeros((batch, *host.shape[1:]), program.dtypes[name])
                held[name][:count] = cupy.asarray(np.ascontiguousarray(host))
            shape = (batch, self._model.channels, *size)
            held[output] = cupy.empty(shape, program.dtypes[output])
            addresses = {name: one.data.ptr for name, one in held.items()}
            program.enqueue(bucket, addresses, self._stream.ptr)
            answer = cupy.asnumpy(held[output][:count], stream=self._stream)
            self._stream.synchronize()
        return np.asarray(answer, dtype=np.float32)


def look() -> None:
    """Make sure that all that TensorRT needs is there.

    Raises:
        EngineError: something is not.
    """
    ready()
    _cupy()


@contextmanager
def _gpu_errors() -> Iterator[None]:
    """CUDA's errors as ours."""
    cuda = _cupy().cuda
    kinds = (
        cuda.runtime.CUDARuntimeError,
        cuda.driver.CUDADriverError,
        cuda.memory.OutOfMemoryError,
    )
    try:
        yield
    except kinds as error:
        raise device_error(error) from None


def _cupy() -> Any:
    """CuPy, which is imported where there is a GPU to use it on.

    Raises:
        EngineError: it is not there.
    """
    try:
        import cupy
    except ImportError as error:
        raise EngineError(
            f"CuPy does not load ({error}): pip install 'qdec[gpu]' brings it"
        ) from None
    return cupy
