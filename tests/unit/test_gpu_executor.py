"""Batches on the GPU's path, kernels run on the processor: answers are the decoder's own."""

from __future__ import annotations

import select
from typing import Any

import numpy as np
import pytest

from helpers.emulated import compiler
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
from helpers.gpu import EmulatedProgram, EmulatedRuntime
from qdec.accelerator.exchange import Status
from qdec.bits import Bytes
from qdec.errors import DeviceError, DeviceFault
from qdec.match import Answers, CompiledWindow, Tier
from qdec.match.settled import Settled
from qdec.neural.engine import CompiledNetwork, Floats
from qdec.windows import Window

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


def bench_on(
    runtime: EmulatedRuntime,
    decoders: dict[int, CompiledWindow],
    dtype: Any = np.float32,
    streams: int = 2,
    *,
    settle: bool = True,
) -> Bench:
    def programs(network: Any, size: tuple[int, int, int]) -> Any:
        return EmulatedProgram(runtime, network, BUCKETS, dtype)

    return Bench(runtime, decoders, programs, streams, settle=settle)


@pytest.mark.parametrize("make", [soft, ising, confident, matching])
@pytest.mark.parametrize("shots", [1, 3, 8, 21])
def test_answers_are_the_decoders_own(make: Any, shots: int) -> None:
    decoder = make()
    bench = bench_on(EmulatedRuntime(), {7: decoder})
    assert bool(bench.kinds) is (make is not matching)
    window = Window(0, 13, 13, 13) if make is confident else MIDDLE
    syndromes = windows_of(shots, window)
    slot = bench.ask(7, syndromes)
    found = bench.answers(1)[0, slot]
    same(found, decoder.decode(syndromes))
    assert bench.words.windows == shots


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_requests_of_several_lanes_go_through_in_one_graph(dtype: Any) -> None:
    decoder = soft()
    runtime = EmulatedRuntime()
    bench = bench_on(runtime, {7: decoder}, dtype, streams=1)
    syndromes = windows_of(40)
    parts = [syndromes[:1], syndromes[1:4], syndromes[4:6], syndromes[6:8]]
    slots = [bench.ask(7, part, lane=i % 2) for i, part in enumerate(parts)]
    found = bench.answers(4)
    assert bench.words.batches == 1
    for i, part in enumerate(parts):
        wanted = decoder.decode(part)
        if dtype is np.float32:
            same(found[i % 2, slots[i]], wanted)
        else:  # halves may turn what hangs in the balance
            agree = (found[i % 2, slots[i]].bits == wanted.bits).all(axis=1)
            assert agree.mean() > 0.6


def test_streams_run_side_by_side_and_nothing_is_waited_for() -> None:
    decoders = {7: soft(), 8: ising()}
    runtime = EmulatedRuntime(eager=False)
    bench = bench_on(runtime, decoders)
    syndromes = windows_of(60)
    asked = {}
    for i in range(10):  # more than both streams take at a time
        kind, lane, part = 7 + i % 2, i // 2 % 2, syndromes[3 * i : 3 * i + 3]
        asked[lane, bench.ask(kind, part, lane)] = decoders[kind].decode(part)
    bench.worker.collect()
    assert bench.worker.turn() == set()
    assert all(stream.waiting for stream in runtime.streams)
    bell = bench.executor.fileno()
    assert select.select([bell], [], [], 0)[0] == []
    found: dict[tuple[int, int], Answers] = {}
    rng = np.random.default_rng(2)
    for _ in range(300):
        runtime.streams[int(rng.integers(2))].run(int(rng.integers(1, 4)))
        if select.select([bell], [], [], 0)[0]:
            bench.worker.turn()
        for lane, link in enumerate(bench.links):
            for slot, reply in link.collect().replies:
                assert reply is not None
                assert reply.answers is not None
                found[lane, slot] = reply.answers
        if len(found) == len(asked):
            break
    assert found.keys() == asked.keys()
    for at, wanted in asked.items():
        same(found[at], wanted)


@pytest.mark.parametrize("window", [MIDDLE, Window(0, 13, 13, 13)], ids=str)
def test_answers_of_the_device_are_those_of_all_log_odds(window: Window) -> None:
    """Of windows that have one, the host never sees the log-odds."""
    decoder = soft(window)
    inner: Any = decoder
    handed: list[int] = []
    put = inner.ahead.put

    def see(syndromes: Bytes, found: Any) -> None:
        handed.append(len(found.odds) if isinstance(found, Settled) else len(found))
        put(syndromes, found)

    inner.ahead.put = see
    syndromes = windows_of(40, window, noise=0.008)
    answers = []
    for settle in (True, False):
        bench = bench_on(EmulatedRuntime(), {7: decoder}, settle=settle)
        slot = bench.ask(7, syndromes)
        answers.append(bench.answers(1)[0, slot])
    same(*answers)
    assert answers[0].tiers is None
    assert 0 < handed[0] < 30, "some are left to the host"
    assert handed[1] == 40


def test_decoders_that_say_how_sure_they_are_get_all_log_odds() -> None:
    bench = bench_on(EmulatedRuntime(), {7: soft(), 8: confident()})
    assert bench.kinds[7].settle is not None
    assert bench.kinds[8].settle is None


class Sick:
    """A network whose second window makes no sense."""

    def __init__(self, network: CompiledNetwork) -> None:
        self.channels = network.channels
        self._network = network

    def __call__(self, *inputs: Floats) -> Floats:
        out = self._network(*inputs)
        out[1:2, 0, 0, 0, 0] = np.nan
        return out


@pytest.mark.parametrize("make", [soft, ising])
def test_windows_of_which_the_network_makes_no_sense_are_matched(make: Any) -> None:
    decoder = make()
    decoder.network = Sick(decoder.network)
    bench = bench_on(EmulatedRuntime(), {7: decoder}, streams=1)
    syndromes = windows_of(3)
    slot = bench.ask(7, syndromes)
    found = bench.answers(1)[0, slot]
    assert found.tiers is not None
    assert (found.tiers == Tier.MATCHING).tolist() == [False, True, False]
    np.testing.assert_array_equal(found.bits[1:2], matching().decode(syndromes[1:2]).bits)


def test_windows_of_another_size_fail_alone() -> None:
    """What a lane should never ask: kernels would read beyond it."""
    decoder = soft()
    bench = bench_on(EmulatedRuntime(), {7: decoder}, streams=1)
    syndromes = windows_of(4)
    slots = [bench.ask(7, one) for one in (syndromes[:2], syndromes[2:, :-1].copy())]
    for _ in range(20):
        bench.worker.collect()
        bench.worker.turn()
    replies = dict(bench.links[0].collect().replies)
    good, bad = (replies[slot] for slot in slots)
    assert good is not None
    assert good.answers is not None
    same(good.answers, decoder.decode(syndromes[:2]))
    assert bad is not None
    assert bad.status is Status.FAILED


def test_a_device_without_room_says_so_at_once() -> None:
    with pytest.raises(DeviceError) as caught:
        bench_on(EmulatedRuntime(room=1000), {7: soft()})
    assert caught.value.kind is DeviceFault.MEMORY


def test_a_lost_device_ends_the_worker() -> None:
    runtime = EmulatedRuntime(eager=False)
    bench = bench_on(runtime, {7: soft()})
    bench.ask(7, windows_of(2))
    bench.worker.collect()
    bench.worker.turn()

    def lost() -> None:
        raise DeviceError(DeviceFault.LOST, "no device")

    bench.executor._runs[0][0].mark = type("Lost", (), {"done": property(lambda self: lost())})()
    with pytest.raises(DeviceError) as caught:
        bench.worker.turn()
    assert caught.value.kind is DeviceFault.LOST


def test_a_bell_that_rings_late_is_silenced() -> None:
    """The driver's callback may come after the batch was taken back."""
    bench = bench_on(EmulatedRuntime(), {7: soft()})
    slot = bench.ask(7, windows_of(1))
    assert (0, slot) in bench.answers(1)
    bench.executor._ring()
    bell = bench.executor.fileno()
    assert select.select([bell], [], [], 0)[0]
    bench.worker.turn()
    assert select.select([bell], [], [], 0)[0] == []


def test_one_request_of_a_batch_may_fail_alone() -> None:
    decoder = soft()
    inner: Any = decoder
    poisoned = windows_of(1, seed=9)
    decode = inner.decode

    def picky(syndromes: Bytes) -> Answers:
        if (syndromes == poisoned).all(axis=1).any():
            raise ZeroDivisionError
        return decode(syndromes)

    inner.decode = picky
    bench = bench_on(EmulatedRuntime(), {7: decoder}, streams=1)
    good = windows_of(2)
    slots = [bench.ask(7, one, lane) for lane, one in enumerate((good, poisoned))]
    for _ in range(20):
        bench.worker.collect()
        bench.worker.turn()
    ours, theirs = (
        dict(link.collect().replies)[slot] for link, slot in zip(bench.links, slots, strict=True)
    )
    assert ours is not None
    assert ours.answers is not None
    same(ours.answers, decode(good))
    assert theirs is not None
    assert theirs.status is Status.FAILED


def test_what_follows_a_batch_of_several_passes_does_not_wait_for_its_last() -> None:
    decoder = soft()
    runtime = EmulatedRuntime(eager=False)
    bench = bench_on(runtime, {7: decoder}, streams=1)
    long, short = windows_of(12), windows_of(2, seed=6)
    bench.ask(7, long)
    bench.ask(7, short, lane=1)
    bench.worker.collect()
    bench.worker.turn()
    (stream,) = runtime.streams
    done: list[int] = []
    for _ in range(40):
        stream.run(1)
        bench.worker.turn()
        done += [1 for _ in bench.links[0].collect().replies]
        done += [2 for _ in bench.links[1].collect().replies]
    assert sorted(done) == [1, 2]
