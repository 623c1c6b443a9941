"""Batches on a real GPU, as tests/unit/test_gpu_executor.py has them on the processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.executed import (
    BUCKETS,
    MIDDLE,
    Bench,
    confident,
    ising,
    matching,
    same,
    soft,
    windows_of,
)
from qdec.cuda.compile import compile_kernels, find_nvcc
from qdec.cuda.on_gpu import GpuRuntime
from qdec.errors import DeviceError, DeviceFault, EngineError
from qdec.match import CompiledWindow, Tier
from qdec.match.ahead import innermost
from qdec.neural import driver
from qdec.neural.engine import why_not
from qdec.neural.onnx_model import Model
from qdec.windows import Window

try:
    driver.devices()
except EngineError as error:
    pytest.skip(f"needs a GPU: {error}", allow_module_level=True)

# Whoever comes first builds a plan.
pytestmark = pytest.mark.timeout(300)
Make = Callable[[], CompiledWindow]
WHOLE_SHOT = Window(0, 13, 13, 13)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> GpuRuntime:
    folder = Path("build/kernels")
    nvcc = find_nvcc()
    if nvcc is not None:
        folder = tmp_path_factory.mktemp("kernels")
        compile_kernels(nvcc, folder)
    try:
        return GpuRuntime(folder)
    except EngineError as error:
        pytest.skip(str(error))


class Networks:
    """One engine's networks and programs, in fp32 so that they are the processor's to rounding."""

    def __init__(self, engine: str, plans: Path) -> None:
        self.engine, self._plans = engine, plans

    def on_gpu(self, decoder: CompiledWindow) -> CompiledWindow:
        """The decoder, calling its network there."""
        inner: Any = innermost(decoder)
        model: Model = inner.network._model  # as OpenVINO's networks hold it
        if self.engine == "tensorrt":
            from qdec.neural.tensorrt.runner import TensorRTNetwork

            inner.network = TensorRTNetwork(
                model, precision="fp32", batches=BUCKETS, folder=self._plans
            )
        else:
            from qdec.neural.torch_engine import TorchNetwork

            inner.network = TorchNetwork(model, precision="fp32", threads=1, device="cuda")
        return decoder

    def program(self, network: Any, size: tuple[int, int, int]) -> Any:
        if self.engine == "tensorrt":
            return network.load(size, may_build=True)
        from on_gpu.torch_program import TorchProgram

        return TorchProgram(network, BUCKETS, half=False)


@pytest.fixture(scope="module", params=["tensorrt", "torch"])
def networks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Networks:
    if why := why_not(request.param):
        pytest.skip(why)
    return Networks(request.param, tmp_path_factory.mktemp("networks") / "plans")


def agreeing(found: Any, wanted: Any, least: float) -> None:
    """Bits are the same in a share of windows: rounding may turn what hangs in the balance."""
    assert (found.bits == wanted.bits).all(axis=1).mean() >= least


@pytest.mark.parametrize("make", [soft, ising, confident])
@pytest.mark.parametrize("shots", [1, 3, 8, 21])
def test_answers_are_the_decoders_own(
    runtime: GpuRuntime, networks: Networks, make: Make, shots: int
) -> None:
    decoder = networks.on_gpu(make())
    bench = Bench(runtime, {7: decoder}, networks.program)
    assert bench.kinds
    syndromes = windows_of(shots, WHOLE_SHOT if make is confident else MIDDLE)
    slot = bench.ask(7, syndromes)
    found = bench.answers(1)[0, slot]
    agreeing(found, decoder.decode(syndromes), 0.9)
    agreeing(found, make().decode(syndromes), 0.9)  # on the processor
    assert found.feasible.all()
    assert bench.words.windows == shots


def test_windows_without_a_network_are_matched(runtime: GpuRuntime, networks: Networks) -> None:
    decoder = matching()
    bench = Bench(runtime, {7: decoder}, networks.program)
    assert not bench.kinds
    syndromes = windows_of(8)
    slot = bench.ask(7, syndromes)
    same(bench.answers(1)[0, slot], decoder.decode(syndromes))


def test_requests_of_several_lanes_go_through_in_one_graph(
    runtime: GpuRuntime, networks: Networks
) -> None:
    decoder = networks.on_gpu(soft())
    bench = Bench(runtime, {7: decoder}, networks.program, streams=1)
    syndromes = windows_of(40)
    parts = [syndromes[:1], syndromes[1:4], syndromes[4:6], syndromes[6:8]]
    slots = [bench.ask(7, part, lane=i % 2) for i, part in enumerate(parts)]
    found = bench.answers(4)
    assert bench.words.batches == 1
    bits = np.concatenate([found[i % 2, slots[i]].bits for i in range(4)])
    assert (bits == decoder.decode(syndromes[:8]).bits).all(axis=1).mean() >= 7 / 8


def test_streams_run_side_by_side(runtime: GpuRuntime, networks: Networks) -> None:
    decoders = {7: networks.on_gpu(soft()), 8: networks.on_gpu(ising())}
    bench = Bench(runtime, decoders, networks.program, streams=2)
    syndromes = windows_of(60)
    asked = {}
    for i in range(20):  # more than both streams take at a time
        kind, lane, part = 7 + i % 2, i // 2 % 2, syndromes[3 * i : 3 * i + 3]
        asked[lane, bench.ask(kind, part, lane)] = decoders[kind].decode(part)
    found = bench.answers(len(asked))
    assert found.keys() == asked.keys()
    right = [(found[at].bits == wanted.bits).all(axis=1) for at, wanted in asked.items()]
    assert np.concatenate(right).mean() >= 0.95


class Sick:
    """A program whose second window makes no sense: its bytes are all ones, which is NaN."""

    def __init__(self, program: Any) -> None:
        self._program = program
        self.batches, self.outputs, self.dtypes = program.batches, program.outputs, program.dtypes
        self._shape: tuple[int, ...] = ()
        self._channels = 0

    def prepare(self, shapes: Mapping[str, tuple[int, ...]], stream: int) -> None:
        (self._shape,) = shapes.values()
        self._program.prepare(shapes, stream)

    def enqueue(self, bucket: int, addresses: Mapping[str, int], stream: int) -> None:
        import cupy

        self._program.enqueue(bucket, addresses, stream)
        (output,) = self.outputs
        itemsize = self.dtypes[output].itemsize
        size = itemsize * self._channels * int(np.prod(self._shape[1:]))
        if self.batches[bucket] > 1:
            cupy.cuda.runtime.memsetAsync(addresses[output] + size, 0xFF, size, stream)

    def of(self, channels: int) -> Sick:
        self._channels = channels
        return self


@pytest.mark.parametrize("make", [soft, ising])
def test_windows_of_which_the_network_makes_no_sense_are_matched(
    runtime: GpuRuntime, networks: Networks, make: Make
) -> None:
    def sick(network: Any, size: tuple[int, int, int]) -> Sick:
        return Sick(networks.program(network, size)).of(network.channels[1])

    decoder = networks.on_gpu(make())
    bench = Bench(runtime, {7: decoder}, sick, streams=1)
    syndromes = windows_of(3)
    slot = bench.ask(7, syndromes)
    found = bench.answers(1)[0, slot]
    assert found.tiers is not None
    assert (found.tiers == Tier.MATCHING).tolist() == [False, True, False]
    np.testing.assert_array_equal(found.bits[1:2], matching().decode(syndromes[1:2]).bits)


def test_windows_of_another_size_fail_alone(runtime: GpuRuntime, networks: Networks) -> None:
    bench = Bench(runtime, {7: networks.on_gpu(soft())}, networks.program, streams=1)
    bench.ask(7, windows_of(2)[:, :-1].copy())
    with pytest.raises(AssertionError):
        bench.answers(1)
    slot = bench.ask(7, windows_of(2))
    assert bench.answers(1)[0, slot].feasible.all()


def test_a_graph_says_the_same_a_thousand_times(runtime: GpuRuntime, networks: Networks) -> None:
    decoder = networks.on_gpu(ising())
    bench = Bench(runtime, {7: decoder}, networks.program, streams=1)
    parts = windows_of(24).reshape(8, 3, -1)
    first = []
    for i in range(1000):
        slot = bench.ask(7, parts[i % 8])
        bits = bench.answers(1)[0, slot].bits
        if i < 8:
            first.append(bits)
        np.testing.assert_array_equal(bits, first[i % 8])
    assert bench.words.batches == 1000


def test_a_device_without_room_says_so_at_once(runtime: GpuRuntime, networks: Networks) -> None:
    cupy = pytest.importorskip("cupy")
    decoder = networks.on_gpu(soft())
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + 1024)
    try:
        with pytest.raises(DeviceError) as caught:
            Bench(runtime, {7: decoder}, networks.program)
        assert caught.value.kind is DeviceFault.MEMORY
    finally:
        pool.set_limit(size=0)
    slot = (bench := Bench(runtime, {7: decoder}, networks.program)).ask(7, windows_of(1))
    assert bench.answers(1)[0, slot].feasible.all()


def test_memory_that_no_gpu_has_is_reported_as_such(runtime: GpuRuntime) -> None:
    with pytest.raises(DeviceError) as caught:
        runtime.zeros((1 << 50,), np.uint8)
    assert caught.value.kind is DeviceFault.MEMORY
    assert runtime.zeros((8,), np.uint8) is not None
