"""Loading and running plans, with a made-up TensorRT: no GPU is here. See also tests/gpu."""

from __future__ import annotations

import ctypes
import logging
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.networks import convolutions
from qdec.errors import DeviceError, EngineError
from qdec.neural import engine
from qdec.neural.onnx_model import parse_model
from qdec.neural.tensorrt import cache, runner
from qdec.neural.tensorrt.api import Api
from qdec.neural.tensorrt.build import Recipe

BATCHES = (1, 8)
GOOD = b"a plan"


class Mode(IntEnum):
    INPUT = 1
    OUTPUT = 2


class Context:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.profile = -1
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.streams: list[int] = []

    def set_optimization_profile_async(self, at: int, stream: int) -> bool:
        self.profile = at
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return shape[1] == 4

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in ("x", "y")

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        return stream != 0


class Engine:
    num_optimization_profiles = len(BATCHES)
    num_io_tensors = 2

    def __init__(self, memory: int = 99) -> None:
        self.memory = memory
        self.contexts: list[Context] = []

    def get_tensor_name(self, at: int) -> str:
        return "xy"[at]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "x" else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return "float"

    def create_execution_context(self) -> Context | None:
        if len(self.contexts) >= self.memory:
            return None
        self.contexts.append(Context())
        return self.contexts[-1]


class Runtime:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if not plan.startswith(GOOD):
            self.logger.log("ERROR", "it was made by another version")
            return None
        return Engine(int(plan[len(GOOD) :] or b"99"))


class Logger:
    ERROR, INTERNAL_ERROR = "ERROR", "INTERNAL_ERROR"


TRT = SimpleNamespace(
    ILogger=Logger,
    Runtime=Runtime,
    TensorIOMode=Mode,
    DataType=SimpleNamespace(FLOAT="float", HALF="half"),
)
API = Api(TRT, "tensorrt", "11")
RECIPE = Recipe(convolutions(), (3, 3, 3), BATCHES)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    made: list[Recipe] = []

    def fake(recipe: Recipe) -> bytes:
        made.append(recipe)
        return GOOD

    monkeypatch.setattr(runner, "ready", lambda: API)
    monkeypatch.setattr(runner, "here", lambda api: ("H200", (9, 0)))
    monkeypatch.setattr(runner, "build", fake)
    return made


def test_a_plan_is_built_once_and_kept(tmp_path: Path, builds: list[Recipe]) -> None:
    folder = tmp_path / "plans"
    for _ in range(2):
        runner.load(RECIPE, folder, may_build=True)
    assert builds == [RECIPE]
    runner.load(RECIPE, folder, may_build=False)


@pytest.mark.parametrize("damage", ["damaged", "foreign"])
def test_a_plan_that_is_not_to_be_trusted_is_built_again(
    tmp_path: Path, builds: list[Recipe], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "plans"
    key = cache.key_of(RECIPE, API, "H200", (9, 0))
    path = cache.write(folder, key, b"of another version")
    if damage == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineError, match="qdec engine build"):
        runner.load(RECIPE, folder, may_build=False)
    with caplog.at_level(logging.WARNING):
        runner.load(RECIPE, folder, may_build=True)
    words = {"damaged": "cut short", "foreign": "it was made by another version"}
    assert words[damage] in caplog.text
    assert cache.read(folder, key) == (GOOD, "")


def test_a_context_for_each_batch_runs_on_the_callers_stream() -> None:
    program = runner.Program(API, GOOD, BATCHES)
    program.prepare({"x": (4, 3, 3, 3)}, stream=5)
    first, second = program._engine.contexts
    assert (first.profile, second.profile) == (0, 1)
    assert (first.shapes["x"], second.shapes["x"]) == ((1, 4, 3, 3, 3), (8, 4, 3, 3, 3))
    assert [program.bucket(n) for n in (1, 2, 8)] == [0, 1, 1]
    with pytest.raises(EngineError, match="9 windows at once are outside"):
        program.bucket(9)
    program.enqueue(1, {"x": 1000, "y": 2000}, 7)
    assert (second.addresses, second.streams) == ({"x": 1000, "y": 2000}, [7])
    assert not first.streams
    with pytest.raises(EngineError, match="TensorRT failed"):
        program.enqueue(1, {"x": 1000, "y": 2000}, 0)
    with pytest.raises(EngineError, match="no address for 'z'"):
        program.enqueue(1, {"z": 1}, 7)


class Array(np.ndarray):
    """NumPy's memory in the place of a GPU's."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


class Stream:
    ptr = 7

    def __init__(self, **_: object) -> None:
        self.waits = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        self.waits += 1


class LostDevice(Exception):
    """A CUDA error."""


CUPY = SimpleNamespace(
    zeros=lambda shape, kind: np.zeros(shape, kind).view(Array),
    empty=lambda shape, kind: np.full(shape, np.nan, kind).view(Array),
    asarray=lambda host: host.view(Array),
    asnumpy=lambda one, stream: np.array(one),
    cuda=SimpleNamespace(
        Stream=Stream,
        runtime=SimpleNamespace(CUDARuntimeError=LostDevice),
        driver=SimpleNamespace(CUDADriverError=LostDevice),
        memory=SimpleNamespace(OutOfMemoryError=MemoryError),
    ),
)


def twice(context: Context, stream: int) -> bool:
    """A network that doubles what it is given, in the memory that it is given."""
    shape = context.shapes["x"]
    count = int(np.prod(shape))
    x, y = (
        np.ctypeslib.as_array((ctypes.c_float * count).from_address(context.addresses[name]))
        for name in "xy"
    )
    y[:] = 2 * x
    context.streams.append(shape[0])
    return True


def test_arrays_of_any_batch_are_padded_and_split(
    tmp_path: Path, builds: list[Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_cupy", lambda: CUPY)
    monkeypatch.setattr(Context, "execute_async_v3", twice)
    model = parse_model(convolutions())
    network = runner.TensorRTNetwork(
        model, precision="fp16", batches=BATCHES, folder=tmp_path / "plans"
    )
    assert network.channels == ((4,), 4)
    for batch in (0, 1, 3, 8, 19):
        x = np.random.default_rng(batch).random((batch, 4, 3, 3, 3)).astype(np.float32)
        np.testing.assert_array_equal(network(x), 2 * x)
    ran = [one.streams for one in network.program((3, 3, 3), may_build=False)._engine.contexts]
    assert ran == [[1], [8] * 5], "3, 8 and 19 = 8 + 8 + 3"
    assert builds == [Recipe(convolutions(), (3, 3, 3), BATCHES)]
    with pytest.raises(EngineError, match="takes float32"):
        network(np.zeros((1, 3, 3, 3, 3), dtype=np.float32))


def test_other_sizes_are_built_at_the_start_only(
    tmp_path: Path, builds: list[Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_cupy", lambda: CUPY)
    monkeypatch.setattr(Context, "execute_async_v3", twice)
    network = runner.TensorRTNetwork(
        parse_model(convolutions()), precision="fp16", batches=BATCHES, folder=tmp_path / "plans"
    )
    network(np.ones((1, 4, 3, 3, 3), dtype=np.float32))
    monkeypatch.setattr(engine, "_may_build", False)
    network(np.ones((1, 4, 3, 3, 3), dtype=np.float32))
    with pytest.raises(EngineError, match="qdec engine build"):
        network(np.ones((1, 4, 4, 3, 3), dtype=np.float32))
    assert [one.size for one in builds] == [(3, 3, 3)]


def test_a_lost_gpu_is_an_error_of_ours(
    tmp_path: Path, builds: list[Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(context: Context, stream: int) -> bool:
        raise LostDevice("cudaErrorDeviceLost")

    monkeypatch.setattr(runner, "_cupy", lambda: CUPY)
    monkeypatch.setattr(Context, "execute_async_v3", lost)
    network = runner.TensorRTNetwork(
        parse_model(convolutions()), precision="fp16", batches=BATCHES, folder=tmp_path / "plans"
    )
    with pytest.raises(DeviceError, match="LostDevice: cudaErrorDeviceLost"):
        network(np.ones((1, 4, 3, 3, 3), dtype=np.float32))


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(runner.ForeignPlan, match="not for this GPU"):
        runner.Program(API, GOOD, (1,))
    with pytest.raises(EngineError, match="no memory for batches of 8"):
        runner.Program(API, GOOD + b"1", BATCHES).prepare({"x": (4, 3, 3, 3)}, 5)
    with pytest.raises(EngineError, match="outside the plan's profiles"):
        runner.Program(API, GOOD, BATCHES).prepare({"x": (5, 3, 3, 3)}, 5)
