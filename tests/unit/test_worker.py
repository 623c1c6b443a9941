"""The accelerator without its process: who is decoded first, with whom, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from helpers.services import CODE, GEOMETRY
from qdec.accelerator.exchange import EXCHANGE_BYTES, SLOT_BYTES, Exchange, Status
from qdec.accelerator.executor import Kind
from qdec.accelerator.kinds import kinds_needed
from qdec.accelerator.link import Link
from qdec.accelerator.stats import AcceleratorStats
from qdec.accelerator.worker import Worker
from qdec.bits import Bytes
from qdec.commit import WindowBank
from qdec.errors import DeviceError, DeviceFault
from qdec.match import Answers, Tier
from qdec.windows import WHOLE, Geometry

WIDTH = 8
FAR = 1 << 60


@dataclass
class Echo:
    """Answers with the syndrome's first byte; fails on 255."""

    notes: tuple[str, ...] = ()
    cost: int = 0
    calls: list[list[int]] = field(default_factory=list)
    clock: list[int] = field(default_factory=lambda: [0])
    wrong: bool = False
    lost: bool = False

    def decode(self, syndromes: Bytes) -> Answers:
        asked = syndromes[:, 0]
        self.calls.append(asked.tolist())
        self.clock[0] += self.cost * len(syndromes)
        if self.lost:
            raise DeviceError(DeviceFault.LOST, "cudaErrorUnknown")
        if (asked == 255).any():
            raise ZeroDivisionError
        bits = syndromes[:, : 2 if self.wrong else 1]
        return Answers(bits, asked % 2 == 0, asked.astype(np.float32) / 256)


class Bench:
    """Lanes and a worker on the same memory."""

    def __init__(self, lanes: int = 1, batch: int = 64, cost: int = 0) -> None:
        self.clock = [0]
        self.words = AcceleratorStats(generation=1)
        self.memories = [bytearray(EXCHANGE_BYTES) for _ in range(lanes)]
        self.exchanges = [Exchange(memory) for memory in self.memories]
        self.links = [Link(one, self.words, lambda: None) for one in self.exchanges]
        self.echo = [Echo(cost=cost, clock=self.clock) for _ in range(2)]
        self.worker = self.new_worker(batch)

    def new_worker(self, batch: int = 64) -> Worker:
        kinds = {10 + i: Kind(echo, fenced=i == 1) for i, echo in enumerate(self.echo)}
        return Worker(
            self.exchanges,
            kinds,
            self.words.generation,
            batch=batch,
            stats=self.words,
            clock=lambda: self.clock[0],
        )

    def ask(self, *values: int, lane: int = 0, kind: int = 10, give_up: int = FAR) -> int:
        syndromes = np.zeros((len(values), WIDTH), dtype=np.uint8)
        syndromes[:, 0] = values
        slot = self.links[lane].hand_over(kind, give_up, syndromes, 1)
        assert slot is not None
        return slot

    def turns(self) -> list[set[int]]:
        self.worker.collect()
        found = []
        while self.worker.pending:
            found.append(self.worker.turn())
        return found

    def replies(self, lane: int = 0) -> dict[int, tuple[Status, list[int]]]:
        found = {}
        for slot, reply in self.links[lane].collect().replies:
            assert reply is not None
            said = reply.answers
            found[slot] = reply.status, [] if said is None else said.bits[:, 0].tolist()
        return found


def test_what_is_alike_is_decoded_together_over_lanes() -> None:
    bench = Bench(lanes=3)
    slots = [bench.ask(10 * lane, 10 * lane + 1, lane=lane) for lane in range(3)]
    other = bench.ask(99, lane=1, kind=11)
    assert bench.turns() == [{0, 1, 2}, {1}]
    assert bench.echo[0].calls == [[0, 1, 10, 11, 20, 21]]
    assert bench.echo[1].calls == [[99]]
    for lane in range(3):
        replies = bench.replies(lane)
        assert replies[slots[lane]] == (Status.ANSWERED, [10 * lane, 10 * lane + 1])
        assert (lane == 1) == (other in replies and len(replies) == 2)


def test_the_most_urgent_goes_first_and_takes_its_kind_along() -> None:
    bench = Bench()
    for value, kind, give_up in [(1, 10, 300), (2, 11, 200), (3, 10, 400), (4, 11, 100)]:
        bench.ask(value, kind=kind, give_up=give_up)
    bench.turns()
    assert bench.echo[1].calls == [[4, 2]]
    assert bench.echo[0].calls == [[1, 3]]


def test_batches_are_bounded_but_a_request_is_never_split() -> None:
    bench = Bench(batch=3)
    bench.ask(1, 2, give_up=1)
    bench.ask(3, 4, give_up=2)
    bench.ask(5, give_up=3)
    bench.ask(6, 7, 8, 9, give_up=4)
    bench.turns()
    assert bench.echo[0].calls == [[1, 2, 5], [3, 4], [6, 7, 8, 9]]


def test_what_cannot_make_it_any_more_is_acknowledged_and_not_begun() -> None:
    bench = Bench(cost=1000)
    bench.ask(1)
    bench.turns()  # that is how long it takes
    late = bench.ask(2, give_up=bench.clock[0] + 999)
    fine = bench.ask(3, give_up=bench.clock[0] + 1000)
    bench.turns()
    replies = bench.replies()
    assert replies[late] == (Status.SKIPPED, [])
    assert replies[fine] == (Status.ANSWERED, [3])
    assert bench.echo[0].calls == [[1], [3]]
    assert bench.words.windows == 2
    assert list(bench.words.skipped) == [1, *[0] * 7], "late"


def test_a_kind_that_nobody_compiled_is_refused() -> None:
    bench = Bench()
    slot = bench.ask(1, kind=5)
    assert bench.turns() == [{0}]
    assert bench.replies() == {slot: (Status.UNKNOWN, [])}


def test_one_that_breaks_the_decoder_breaks_no_other() -> None:
    bench = Bench()
    slots = [bench.ask(1), bench.ask(255), bench.ask(3)]
    bench.turns()
    replies = bench.replies()
    assert [replies[slot][0] for slot in slots] == [1, Status.FAILED, 1]
    assert bench.words.failed == 1


def test_a_decoder_whose_device_is_lost_ends_the_process() -> None:
    bench = Bench()
    bench.echo[0].lost = True
    bench.ask(1)
    bench.ask(2)
    bench.worker.collect()
    with pytest.raises(DeviceError, match="the device is gone"):
        bench.worker.turn()
    assert bench.echo[0].calls == [[1, 2]], "it is not asked again"


def test_answers_of_another_shape_are_none() -> None:
    bench = Bench()
    bench.echo[0].wrong = True
    slot = bench.ask(1)
    bench.turns()
    assert bench.replies() == {slot: (Status.FAILED, [])}


def test_an_impossible_request_is_acknowledged() -> None:
    bench = Bench()
    slot = bench.ask(1)
    at = 4096 + slot * SLOT_BYTES + 24
    bench.memories[0][at : at + 4] = bytes(4)  # no windows
    bench.turns()
    ((_, reply),) = bench.links[0].collect().replies
    assert reply is None
    assert bench.links[0].out == 0


def test_what_was_asked_of_another_accelerator_is_not_answered() -> None:
    bench = Bench()
    bench.ask(1)
    bench.words.generation = 2
    bench.worker = bench.new_worker()
    slot = bench.ask(2)
    bench.turns()
    lost = bench.links[0].collect()
    assert [one for one, _ in lost.replies] == [slot]
    assert len(lost.lost) == 1
    assert bench.echo[0].calls == [[2]]


@pytest.mark.parametrize("length", [None, 200, 20, 47])
def test_kinds_are_what_prepare_compiles(length: int | None) -> None:
    bank = WindowBank(CODE, Tier.MATCHING, GEOMETRY)
    kinds = kinds_needed(bank, Tier.CORRELATED, length)
    assert bank.num_compiled == 0
    bank.prepare(length)
    assert bank.num_compiled == len(kinds) == len(set(kinds.values()))


def test_a_kinds_number_says_code_tier_and_geometry() -> None:
    banks = [WindowBank(CODE, Tier.MATCHING, g) for g in (GEOMETRY, Geometry(20, 9), WHOLE)]
    numbers = [n for b in banks for tier in Tier for n in kinds_needed(b, tier, 20).values()]
    assert len(numbers) == len(set(numbers))
    again = kinds_needed(WindowBank(CODE, Tier.CORRELATED, GEOMETRY), Tier.MATCHING, 20)
    assert again == kinds_needed(banks[0], Tier.MATCHING, 20)
