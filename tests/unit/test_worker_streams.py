"""The accelerator on an engine with streams of its own: late, out of order, hung, broken."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.engines import LateExecutor, first_bytes
from qdec.accelerator.exchange import EXCHANGE_BYTES, SLOTS, Exchange, Status
from qdec.accelerator.executor import Kind
from qdec.accelerator.latency import Buckets
from qdec.accelerator.link import Link
from qdec.accelerator.scheduler import NEVER
from qdec.accelerator.stats import AcceleratorStats
from qdec.accelerator.work import Terms
from qdec.accelerator.worker import Worker
from qdec.bits import Bytes
from qdec.errors import DeviceError, DeviceFault
from qdec.match import Answers

WIDTH = 8
HANG_NS = 1_000_000
FAR = 1 << 60


class Unasked:
    """A decoder that an executor has no use for."""

    notes = ()

    def decode(self, syndromes: Bytes) -> Answers:
        raise AssertionError


class Bench:
    """Lanes, a worker, and streams in hand."""

    def __init__(self, executor: LateExecutor, lanes: int = 2) -> None:
        self.now = 0
        self.words = AcceleratorStats(generation=1)
        self.exchanges = [Exchange(bytearray(EXCHANGE_BYTES)) for _ in range(lanes)]
        self.links = [Link(one, self.words, lambda: None) for one in self.exchanges]
        self.executor = executor
        self.asked: dict[tuple[int, int], int] = {}
        self.replies: dict[int, tuple[Status, list[int]]] = {}
        self._next = 0
        self.worker = Worker(
            self.exchanges,
            {kind: Kind(Unasked(), fenced=False) for kind in (10, 11)},
            1,
            batch=8,
            stats=self.words,
            clock=lambda: self.now,
            executor=executor,
            terms=Terms(hang_ns=HANG_NS),
        )

    def ask(self, *values: int, lane: int = 0, kind: int = 10, give_up: int = FAR) -> int:
        syndromes = np.zeros((len(values), WIDTH), dtype=np.uint8)
        syndromes[:, 0] = values
        slot = self.links[lane].hand_over(kind, give_up, syndromes, 1)
        assert slot is not None
        self.asked[lane, slot] = self._next
        self._next += 1
        return self._next - 1

    def turn(self) -> set[int]:
        self.worker.collect()
        rung = self.worker.turn()
        for lane, link in enumerate(self.links):
            for slot, reply in link.collect().replies:
                assert reply is not None
                bits = [] if reply.answers is None else reply.answers.bits[:, 0].tolist()
                assert lane in rung
                self.replies[self.asked.pop((lane, slot))] = reply.status, bits
        return rung


ASKED = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([10, 11]),
        st.lists(st.integers(0, 255), min_size=1, max_size=12),
    ),
    max_size=SLOTS,
)


@given(ASKED, st.integers(1, 4), st.integers(1, 2), st.randoms())
@settings(max_examples=60, deadline=None)
def test_everybody_gets_their_own_answer_in_whatever_order_batches_are_done(
    asked: list, streams: int, most: int, rng: random.Random
) -> None:
    executor = LateExecutor(streams, most)
    bench = Bench(executor)
    expected = {}
    while asked or bench.worker.pending:
        for lane, kind, values in asked[:5]:
            expected[bench.ask(*values, lane=lane, kind=kind)] = values
        del asked[:5]
        bench.now += 10
        bench.turn()
        done = list(executor.jobs)
        for number in rng.sample(done, rng.randint(0, len(done))):
            executor.finish(number)
    assert {one: values for one, (_, values) in bench.replies.items()} == expected
    assert {status for status, _ in bench.replies.values()} <= {Status.ANSWERED}
    assert bench.words.windows == sum(map(len, expected.values()))


def test_streams_that_are_free_are_all_used_at_once() -> None:
    executor = LateExecutor(3, buckets=Buckets((1,)))
    bench = Bench(executor)
    slots = [bench.ask(value) for value in range(4)]
    assert bench.turn() == set()
    assert [stream for stream, _ in executor.jobs.values()] == [0, 1, 2]
    executor.finish(list(executor.jobs)[2])
    assert bench.turn() == {0}
    assert bench.replies == {slots[2]: (Status.ANSWERED, [2])}
    assert [stream for stream, _ in executor.jobs.values()] == [0, 1, 2]


def test_a_stream_that_never_answers_ends_the_process_when_that_is_known() -> None:
    executor = LateExecutor(2, buckets=Buckets((1,)))
    bench = Bench(executor)
    bench.ask(1)
    bench.ask(2)
    bench.turn()
    assert bench.worker.wake_at == HANG_NS
    bench.now = HANG_NS - 1
    executor.finish(list(executor.jobs)[1])
    assert bench.turn() == {0}
    bench.now = bench.worker.wake_at
    with pytest.raises(DeviceError, match="does not come back") as caught:
        bench.turn()
    assert caught.value.kind is DeviceFault.HUNG


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DeviceError(DeviceFault.LOST, "it fell off the bus"), DeviceFault.LOST),
        (DeviceError(DeviceFault.MEMORY, "none left"), DeviceFault.MEMORY),
        (ZeroDivisionError("a bug"), DeviceFault.ERROR),
    ],
)
@pytest.mark.parametrize("when", ["submitted", "awaited"])
def test_an_executor_that_raises_ends_the_process(
    error: Exception, kind: DeviceFault, when: str
) -> None:
    executor = LateExecutor()
    bench = Bench(executor)
    bench.ask(1)
    if when == "awaited":
        bench.turn()
    executor.fails = error
    with pytest.raises(DeviceError, match=str(error)) as caught:
        bench.turn()
    assert caught.value.kind is kind


@pytest.mark.parametrize(
    "garbage",
    [
        (),
        (None,),
        (first_bytes(np.zeros((2, 1), np.uint8)),),
        (Answers(np.zeros((1, 1)), np.ones(1, np.bool_)),),  # type of another thing
        (Answers(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.bool_)),),
        (
            Answers(
                np.zeros((1, 1), np.uint8), np.ones(1, np.bool_), None, np.full(1, 99, np.uint8)
            ),
        ),
    ],
)
def test_garbage_is_no_answer(garbage: tuple) -> None:
    executor = LateExecutor()
    bench = Bench(executor)
    slot = bench.ask(1)
    bench.turn()
    executor.finish(next(iter(executor.jobs)), garbage)
    bench.turn()
    assert bench.replies == {slot: (Status.FAILED, [])}
    assert (bench.words.failed, bench.words.windows) == (1, 0)
    assert bench.worker.pending == 0


def test_a_batch_that_nobody_asked_for_is_ignored() -> None:
    executor = LateExecutor()
    bench = Bench(executor)
    slot = bench.ask(1)
    bench.turn()
    number, job = next(iter(executor.jobs.items()))
    executor.finish(number)
    executor.jobs[number] = job
    executor.finish(number)
    bench.turn()
    assert bench.replies == {slot: (Status.ANSWERED, [1])}


def test_work_that_would_be_late_behind_the_streams_is_refused_at_once() -> None:
    executor = LateExecutor(buckets=Buckets((1,)))
    bench = Bench(executor)
    for value in range(3):
        bench.ask(value)
        bench.turn()
        bench.now += 1000
        executor.finish(next(iter(executor.jobs)))
        bench.turn()
    bench.ask(9)
    bench.turn()
    slot = bench.ask(10, give_up=bench.now + 1999)
    fine = bench.ask(11, give_up=bench.now + 2000)
    bench.turn()
    assert bench.replies[slot] == (Status.SKIPPED, [])
    assert fine not in bench.replies
    assert sum(bench.words.skipped) == 1
    assert bench.words.unknown == 0
    assert bench.worker.wake_at < NEVER
