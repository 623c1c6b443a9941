"""Slots in shared memory: what is written is read, what is torn is not, and whose turn it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qdec.accelerator.exchange import (
    EXCHANGE_BYTES,
    SLOT_BYTES,
    SLOTS,
    Exchange,
    Reply,
    Request,
    Status,
    most_windows,
)
from qdec.accelerator.link import Link
from qdec.accelerator.stats import AcceleratorStats
from qdec.bits import Bytes
from qdec.errors import ArenaError
from qdec.match import Answers

ANSWER_BYTES = 5


def answers(n: int, seed: int = 0, width: int = ANSWER_BYTES) -> Answers:
    rng = np.random.default_rng(seed)
    return Answers(
        rng.integers(0, 256, (n, width), dtype=np.uint8),
        rng.integers(0, 2, n).astype(np.bool_),
        rng.random(n, dtype=np.float32),
        rng.integers(1, 6, n, dtype=np.uint8) if seed % 2 else None,
    )


def same(a: Answers | None, b: Answers) -> None:
    assert a is not None
    np.testing.assert_array_equal(a.bits, b.bits)
    np.testing.assert_array_equal(a.feasible, b.feasible)
    np.testing.assert_array_equal(a.tiers, b.tiers)
    if b.confidence is None:
        assert a.confidence is not None
        assert np.isnan(a.confidence).all()
    else:
        np.testing.assert_array_equal(a.confidence, b.confidence)


@given(st.integers(1, 1 << 15), st.integers(1, 2000))
def test_what_is_said_to_fit_does(width: int, answer_bytes: int) -> None:
    n = most_windows(width, answer_bytes)
    if not n:
        assert width + answer_bytes > SLOT_BYTES - 200
        return
    exchange = Exchange(bytearray(EXCHANGE_BYTES))
    syndromes = np.full((n, width), 255, dtype=np.uint8)
    exchange.hand_over(0, 1, Request(3, 4, 5, syndromes, answer_bytes))
    exchange.hand_over(1, 2, Request(3, 4, 5, syndromes[:1], answer_bytes))
    said = answers(n, seed=width, width=answer_bytes)
    exchange.acknowledge(0, 1, Reply(Status.ANSWERED, said, fenced=True, took=7))
    read = exchange.request(0)
    assert (read.generation, read.kind, read.give_up, read.answer_bytes) == (3, 4, 5, answer_bytes)
    np.testing.assert_array_equal(read.syndromes, syndromes)
    np.testing.assert_array_equal(exchange.request(1).syndromes, syndromes[:1])
    reply = exchange.reply(0, 1, n, answer_bytes)
    assert reply is not None
    assert (reply.status, reply.fenced, reply.took) == (Status.ANSWERED, True, 7)
    same(reply.answers, said)
    assert exchange.requested[:2].tolist() == [1, 2]
    assert exchange.answered[:2].tolist() == [1, 0]


def test_an_unknown_confidence_is_nan() -> None:
    exchange = Exchange(bytearray(EXCHANGE_BYTES))
    exchange.hand_over(0, 1, Request(1, 1, 1, np.zeros((2, 3), np.uint8), ANSWER_BYTES))
    said = Answers(answers(2).bits, np.ones(2, np.bool_))
    exchange.acknowledge(0, 1, Reply(Status.ANSWERED, said))
    reply = exchange.reply(0, 1, 2, ANSWER_BYTES)
    assert reply is not None
    same(reply.answers, said)


@given(st.integers(0, 8 * 62 - 1), st.sampled_from([Status.ANSWERED, Status.FAILED]))
def test_a_flipped_bit_is_noticed(bit: int, status: Status) -> None:
    memory = bytearray(EXCHANGE_BYTES)
    exchange = Exchange(memory)
    exchange.hand_over(0, 1, Request(1, 1, 1, np.zeros((3, 8), np.uint8), ANSWER_BYTES))
    said = answers(3) if status is Status.ANSWERED else None
    exchange.acknowledge(0, 1, Reply(status, said, took=9))
    answer_at = 4096 + 64  # status, fenced, took and checksum; behind them nothing is said
    payload_at = 4096 + 128 + 24
    places = [*range(answer_at, answer_at + 20)]
    if said is not None:
        places += range(payload_at, payload_at + 3 * (ANSWER_BYTES + 6))
    where = places[bit // 8 % len(places)]
    memory[where] ^= 1 << bit % 8
    assert exchange.reply(0, 1, 3, ANSWER_BYTES) is None
    memory[where] ^= 1 << bit % 8
    assert exchange.reply(0, 1, 3, ANSWER_BYTES) is not None
    assert exchange.reply(0, 2, 3, ANSWER_BYTES) is None, "an answer to another ticket"


@pytest.mark.parametrize(("n", "width"), [(0, 8), (1 << 20, 8), (1, SLOT_BYTES), (0xFFFFFFFF, 1)])
def test_requests_that_cannot_be_are_refused(n: int, width: int) -> None:
    memory = bytearray(EXCHANGE_BYTES)
    memory[4096 + 24 : 4096 + 32] = n.to_bytes(4, "little") + width.to_bytes(4, "little")
    with pytest.raises(ArenaError):
        Exchange(memory).request(0)


class Handed:
    """What the test knows of a slot that was handed over."""

    def __init__(self, slot: int, generation: int, ticket: int, syndromes: Bytes) -> None:
        self.slot, self.generation, self.ticket = slot, generation, ticket
        self.syndromes = syndromes
        self.wanted = True


class Anything(RuleBasedStateMachine):
    """Lanes and accelerators die, stall, and answer in whatever order: nothing is mixed up.

    The accelerator echoes a digest of what it was asked, so a wrong answer is one that does not
    match its question.
    """

    @initialize()
    def begin(self) -> None:
        self.memory = bytearray(EXCHANGE_BYTES)
        self.words = AcceleratorStats(generation=1)
        self.next_generation = 2
        self.bells = 0
        self.out: dict[int, Handed] = {}
        self.serial = 0
        self.link = self.new_link()

    def new_link(self) -> Link:
        def ring() -> None:
            self.bells += 1

        return Link(Exchange(self.memory), self.words, ring)

    @property
    def exchange(self) -> Exchange:
        return Exchange(self.memory)

    @rule(n=st.integers(1, 3))
    def hand_over(self, n: int) -> None:
        self.serial += 1
        syndromes = np.full((n, 8), self.serial % 251, dtype=np.uint8)
        syndromes[:, 0] = self.serial // 251
        slot = self.link.hand_over(7, 0, syndromes, ANSWER_BYTES)
        if slot is None:
            assert len(self.out) == SLOTS
            return
        assert slot not in self.out, "a slot that somebody may still write into"
        ticket = int(self.exchange.requested[slot])
        self.out[slot] = Handed(slot, self.words.generation, ticket, syndromes)

    @rule(which=st.integers(0, SLOTS))
    def give_up(self, which: int) -> None:
        wanted = [one for one in self.out.values() if one.wanted]
        if wanted:
            one = wanted[which % len(wanted)]
            self.link.give_up(one.slot)
            one.wanted = False

    def acknowledge(self, which: int, reply: Callable[[Handed], Reply]) -> Handed | None:
        """By an accelerator that lives; a dead one writes nothing."""
        mine = [
            one
            for one in self.out.values()
            if one.generation == self.words.generation
            and int(self.exchange.answered[one.slot]) != one.ticket
        ]
        if not mine:
            return None
        one = mine[which % len(mine)]
        self.exchange.acknowledge(one.slot, one.ticket, reply(one))
        return one

    @rule(which=st.integers(0, SLOTS), again=st.booleans())
    def answer(self, which: int, again: bool) -> None:
        one = self.acknowledge(which, lambda one: Reply(Status.ANSWERED, echo(one.syndromes)))
        if one and again:
            said = Reply(Status.ANSWERED, echo(one.syndromes))
            self.exchange.acknowledge(one.slot, one.ticket, said)

    @rule(which=st.integers(0, SLOTS), status=st.sampled_from([Status.SKIPPED, Status.FAILED]))
    def decline(self, which: int, status: Status) -> None:
        self.acknowledge(which, lambda _: Reply(status))

    @rule(which=st.integers(0, SLOTS))
    def write_without_a_word(self, which: int) -> None:
        """A slow accelerator scribbles into what it was given, at any time before it is done."""
        one = self.acknowledge(which, lambda one: Reply(Status.ANSWERED, answers(1)))
        if one is not None:
            self.exchange.answered[one.slot] = 0

    @rule()
    def collect(self) -> None:
        replies, lost, late = self.link.collect()
        answered = self.exchange.answered
        done = {s: one for s, one in self.out.items() if int(answered[s]) == one.ticket}
        gone = {
            s: one
            for s, one in self.out.items()
            if s not in done and one.generation != self.words.generation
        }
        assert {slot for slot, _ in replies} == {s for s, one in done.items() if one.wanted}
        assert late == sum(not one.wanted for one in done.values())
        assert set(lost) == {s for s, one in gone.items() if one.wanted}
        for slot, reply in replies:
            assert reply is not None
            if reply.status is Status.ANSWERED:
                same(reply.answers, echo(self.out[slot].syndromes))
        for slot in [*done, *gone]:
            del self.out[slot]

    @rule(again=st.booleans())
    def the_accelerator_dies(self, again: bool) -> None:
        self.words.generation = 0
        if again:
            self.words.generation = self.next_generation
            self.next_generation += 1

    @precondition(lambda self: not self.words.generation)
    @rule()
    def another_one_serves(self) -> None:
        self.words.generation = self.next_generation
        self.next_generation += 1

    @rule()
    def the_lane_is_replaced(self) -> None:
        answered = self.exchange.answered
        self.out = {
            s: one
            for s, one in self.out.items()
            if int(answered[s]) != one.ticket and one.generation == self.words.generation
        }
        for one in self.out.values():
            one.wanted = False
        self.link = self.new_link()

    @invariant()
    def books_agree(self) -> None:
        assert self.link.out == len(self.out)


def echo(syndromes: Bytes) -> Answers:
    return answers(len(syndromes), seed=int(syndromes[0, 0]) * 251 + int(syndromes[0, 1]))


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
