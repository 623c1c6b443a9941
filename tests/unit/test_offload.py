"""Windows that another process answers: whatever it does, each is answered once, in order, rightly.

"Rightly" is as an offline replay answers with the tier that each commit names.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from helpers.accelerators import DEADLINE_NS, Pair, as_replayed, stream_config
from helpers.lanes import LIBRARY, Stream, config
from helpers.services import CODE, GEOMETRY, TEXT, rounds_of_a_shot
from qdec.accelerator.compiled import compile_kinds
from qdec.accelerator.exchange import SLOTS
from qdec.accelerator.executor import Kind
from qdec.bits import Bytes
from qdec.commit import Flag
from qdec.match import Answers, CompiledWindow, Tier
from qdec_tools.sampler import EndlessSampler

MATCHING, CORRELATED = int(Tier.MATCHING), int(Tier.CORRELATED)


def sent(pair: Pair, rounds: int = 200, seed: int = 1) -> tuple[Stream, np.ndarray]:
    """A stream that has a whole shot before it."""
    stream, records = pair.open(), rounds_of_a_shot(rounds, seed)
    assert stream.send(0, records, last=True) is None
    return stream, records


def tiers(rows: np.ndarray) -> list[int]:
    return rows["tier"].tolist()


def test_undisturbed_the_accelerator_answers_every_window_that_it_has_compiled() -> None:
    pair = Pair()
    stream, records = sent(pair)
    pair.settle()
    rows = stream.collect()
    assert set(tiers(rows[:-2])) == {CORRELATED}
    assert pair.fallbacks.keys() <= {"unfit"}  # endless shots end in windows of any length
    as_replayed(rows, [records])
    assert (rows["flags"][:-2] & Flag.FENCED).all(), "the accelerator said that it is"
    assert not (rows["flags"][tiers(rows) == MATCHING] & Flag.FENCED).any()
    assert pair.bells == pair.words.windows > 15


def test_shots_of_one_length_are_answered_by_it_to_the_last_window() -> None:
    pair = Pair(stream_config(endless=False))
    shots = CODE.spacetime.rounds
    records = np.concatenate([rounds_of_one_shot(seed) for seed in range(40)])
    stream = pair.open()
    for first in range(0, len(records), 8 * shots):
        stream.send(first, records[first : first + 8 * shots])
        pair.settle()
    rows = stream.collect()
    assert set(tiers(rows)) == {CORRELATED}
    assert not pair.fallbacks
    as_replayed(rows, list(records.reshape(40, shots, -1)))


def rounds_of_one_shot(seed: int) -> np.ndarray:
    return EndlessSampler(CODE, seed).close(CODE.spacetime.rounds)


def test_whole_shots_go_in_jobs_that_fit_a_slot() -> None:
    pair = Pair(stream_config(endless=False, windows="whole"))
    shots, length = 200, CODE.spacetime.rounds
    records = np.concatenate([rounds_of_one_shot(seed) for seed in range(shots)])
    stream = pair.open()
    done = []
    for first in range(0, len(records), 20 * length):
        stream.send(first, records[first : first + 20 * length])
        pair.settle()
        done.append(stream.collect())
    rows = np.concatenate(done)
    assert set(tiers(rows)) == {CORRELATED}
    assert len(rows) == shots
    assert pair.bells < shots


def test_without_an_accelerator_matching_answers_at_once() -> None:
    pair = Pair()
    pair.die()
    stream, records = sent(pair)
    rows = stream.collect()
    assert set(tiers(rows)) == {MATCHING}
    assert pair.fallbacks == {"down": len(rows)}
    as_replayed(rows, [records])


def test_an_accelerator_whose_loop_does_not_turn_is_not_asked() -> None:
    pair = Pair()
    pair.lane.now += 1_000_000_000
    stream, _ = sent(pair)
    assert set(tiers(stream.collect())) == {MATCHING}
    assert pair.fallbacks.keys() == {"down"}


def test_what_does_not_come_in_time_is_matched_in_time() -> None:
    pair = Pair()
    stream, records = pair.open(), rounds_of_a_shot(200, 1)
    stream.send(0, records[:20])
    assert not len(stream.collect())
    core = pair.lane.core
    assert core.awaiting
    due = pair.lane.now + DEADLINE_NS
    assert pair.lane.now < core.wake_at * 1e9 < due - 250_000  # the margin, and what matching takes
    pair.lane.now = int(core.wake_at * 1e9) - 1000
    assert not len(stream.collect())
    pair.lane.now += 2000
    rows = stream.collect()
    assert tiers(rows) == [MATCHING]
    assert pair.fallbacks == {"deadline": 1}
    assert not core.awaiting
    pair.turn()  # and then it comes after all
    stream.send(20, records[20:30])
    pair.settle()
    assert tiers(stream.collect()) == [CORRELATED]
    assert pair.lane.stats["discarded"] == 1


def test_a_death_is_noticed_before_the_deadline() -> None:
    pair = Pair()
    stream, records = pair.open(), rounds_of_a_shot(200, 1)
    stream.send(0, records[:20])
    assert not len(stream.collect())
    pair.die()
    assert tiers(stream.collect()) == [MATCHING]
    assert pair.fallbacks == {"down": 1}


def test_after_misses_it_is_left_alone_and_asked_again_later() -> None:
    pair = Pair()
    stream, records = pair.open(), rounds_of_a_shot(400, 2)
    asked = []
    for first in range(0, 200, 10):
        stream.send(first, records[first : first + 10])
        before = pair.bells
        stream.collect()
        asked.append(pair.bells - before)
        if pair.lane.core.awaiting:
            pair.lane.now = int(pair.lane.core.wake_at * 1e9) + 1
            pair.beat()  # it lives, and answers nothing
            stream.collect()
    assert asked[1:6] == [1] * 5
    assert asked[6:12] == [0] * 6
    pair.lane.now += 2_000_000_000
    pair.beat()
    for first in range(200, 300, 10):
        stream.send(first, records[first : first + 10])
        pair.settle()
    assert set(tiers(stream.collect())) == {CORRELATED}


def test_more_than_there_are_slots_is_matched() -> None:
    names = [f"s{i}" for i in range(SLOTS + 3)]
    pair = Pair(*[stream_config(name) for name in names])
    streams = [pair.open(name) for name in names]
    for one in streams:
        one.send(0, rounds_of_a_shot(200, 1)[:20])
    rows = np.concatenate([one.collect() for one in streams])
    assert tiers(rows) == [MATCHING] * 3
    assert pair.fallbacks == {"refused": 3}
    pair.settle()
    assert pair.words.batches == 1
    rows = np.concatenate([one.collect() for one in streams])
    assert tiers(rows) == [CORRELATED] * SLOTS


def test_noise_in_the_slots_is_no_answer() -> None:
    pair = Pair()
    stream, records = pair.open(), rounds_of_a_shot(200, 1)
    stream.send(0, records[:20])
    stream.collect()
    pair.turn()
    pair.memory[4096:] = bytes(len(pair.memory) - 4096)
    rows = stream.collect()
    assert tiers(rows) == [MATCHING]
    assert pair.fallbacks == {"sick": 1}


def test_windows_with_lost_bits_are_matched() -> None:
    pair = Pair()
    stream, records = pair.open(), rounds_of_a_shot(200, 1)
    lost = np.zeros_like(records[:20])
    lost[3, 0] = 1
    stream.send(0, records[:20], lost=lost)
    pair.settle()
    assert tiers(stream.collect()) == [MATCHING]
    assert pair.fallbacks == {"unfit": 1}
    assert pair.bells == 0
    stream.send(20, records[20:30])
    pair.settle()
    assert tiers(stream.collect()) == [CORRELATED]


def test_kinds_that_the_accelerator_does_not_know_are_not_asked_for_again() -> None:
    pair = Pair()
    pair.kinds.clear()
    stream, _ = sent(pair, rounds=300)
    pair.settle()
    assert set(tiers(stream.collect())) == {MATCHING}
    assert pair.fallbacks == {"unfit": 29}
    assert pair.bells == len(compile_kinds(LIBRARY, pair.streams[0]))


def test_a_stream_that_is_behind_is_matched_until_it_has_caught_up() -> None:
    pair = Pair()
    stream, records = pair.open(), rounds_of_a_shot(200, 1)
    stream.send(0, records[:150])
    pair.lane.now += DEADLINE_NS
    pair.beat()
    rows = stream.collect()
    assert tiers(rows) == [MATCHING] * 14
    assert pair.fallbacks == {"deadline": 14}
    stream.send(150, records[150:160])
    pair.settle()
    assert tiers(stream.collect()) == [CORRELATED]


def test_closing_a_stream_forgets_what_it_waited_for() -> None:
    pair = Pair()
    stream, records = pair.open(), rounds_of_a_shot(200, 1)
    stream.send(0, records[:20])
    stream.collect()
    pair.lane.core.peer_gone(stream.peer)
    assert not pair.lane.core.awaiting
    pair.turn()
    again = pair.open()
    again.send(0, records[:20])
    pair.settle()
    assert tiers(again.collect()) == [CORRELATED]
    assert pair.lane.stats["discarded"] == 1


def test_other_streams_of_the_lane_are_answered_meanwhile() -> None:
    plain = stream_config("plain", tier="matching", accelerated=None)
    pair = Pair(stream_config())
    pair.streams = (*pair.streams, plain)
    pair.lane.core.configure(pair.settings)
    waiting, other = pair.open(), pair.open("plain")
    records = rounds_of_a_shot(200, 3)
    waiting.send(0, records[:20])
    other.send(0, records, last=True)
    rows = other.collect()
    assert set(tiers(rows)) == {MATCHING}
    assert not pair.fallbacks
    as_replayed(rows, [records])
    assert not len(waiting.collect())
    pair.settle()
    assert tiers(waiting.collect()) == [CORRELATED]


def test_a_dense_window_is_the_accelerators_until_its_deadline_and_then_nobodys() -> None:
    pair = Pair()
    strict = config(*pair.streams, max_section_us=1)
    pair.lane.core.configure(strict)
    stream, records = pair.open(), rounds_of_a_shot(200, 5)
    records[25:45] |= 0x77 & np.bitwise_or.reduce(rounds_of_a_shot(2000, 6)[5:-5], axis=0)
    stream.send(0, records[:20])
    pair.settle()
    stream.send(20, records[20:30])
    pair.lane.work()
    pair.turn()
    rows = stream.collect()
    assert tiers(rows) == [CORRELATED] * 2
    assert not (rows["flags"] & Flag.UNCERTAIN).any(), "it was in time"
    stream.send(30, records[30:40])
    assert not len(stream.collect())
    due = pair.lane.now + DEADLINE_NS
    assert pair.lane.core.wake_at * 1e9 == pytest.approx(due - 300_000, abs=100_000)
    pair.lane.now = int(pair.lane.core.wake_at * 1e9) + 1
    (row,) = stream.collect()
    assert row["flags"] & Flag.UNCERTAIN
    assert row["confidence"] == 0.5
    assert row["tier"] == MATCHING
    assert pair.fallbacks == {"deadline": 1}
    pair.beat()
    for first in range(40, 100, 10):
        stream.send(first, records[first : first + 10])
        pair.settle()
    assert not (stream.collect()["flags"] & Flag.UNCERTAIN).any()


class Sure:
    """A decoder that knows how sure it is; or one whose network has gone wrong."""

    notes = ()

    def __init__(self, other: CompiledWindow, confidence: float) -> None:
        self._other, self._confidence = other, confidence

    def decode(self, syndromes: Bytes) -> Answers:
        if np.isnan(self._confidence):
            raise ArithmeticError("NaN among the logits")
        answers = self._other.decode(syndromes)
        sure = np.full(len(syndromes), self._confidence, dtype=np.float32)
        return Answers(answers.bits, answers.feasible, sure)


@pytest.mark.parametrize("windows", ["20,10", "whole"])
def test_a_confidence_arrives_with_its_commit(windows: str) -> None:
    pair = Pair(stream_config(endless=False, windows=windows))
    pair.kinds.update({k: Kind(Sure(v.decoder, 0.75), v.fenced) for k, v in pair.kinds.items()})
    stream = pair.open()
    stream.send(0, np.concatenate([rounds_of_one_shot(seed) for seed in range(2)]))
    pair.settle()
    rows = stream.collect()
    assert set(tiers(rows)) == {CORRELATED}
    assert (rows["confidence"] == 0.75).all()


class Turns:
    """A decoder that leaves every other window to plain matching, and says so."""

    notes = ()

    def __init__(self, other: CompiledWindow) -> None:
        self._other = other

    def decode(self, syndromes: Bytes) -> Answers:
        answers = self._other.decode(syndromes)
        turns = np.resize(np.array([CORRELATED, MATCHING], dtype=np.uint8), len(syndromes))
        return Answers(answers.bits, answers.feasible, tiers=turns)


def test_a_commit_names_the_tier_that_the_decoder_names() -> None:
    pair = Pair(stream_config(endless=False, windows="whole"))
    pair.kinds.update({k: Kind(Turns(v.decoder), v.fenced) for k, v in pair.kinds.items()})
    stream = pair.open()
    stream.send(0, np.concatenate([rounds_of_one_shot(seed) for seed in range(7)]))
    pair.settle()
    rows = stream.collect()
    assert tiers(rows) == [CORRELATED, MATCHING] * 3 + [CORRELATED]
    assert rows["window"].tolist() == list(range(7))
    assert (np.diff(rows["first_round"].astype(int)) == CODE.spacetime.rounds).all()


def test_a_decoder_that_fails_once_is_left_alone_for_a_while() -> None:
    pair = Pair()
    pair.kinds.update({k: Kind(Sure(v.decoder, np.nan), v.fenced) for k, v in pair.kinds.items()})
    stream, records = sent(pair)
    pair.settle()
    rows = stream.collect()
    assert set(tiers(rows)) == {MATCHING}
    assert np.isnan(rows["confidence"]).all()
    assert pair.fallbacks == {"sick": 1, "down": len(rows) - 1}
    as_replayed(rows, [records])


def test_a_guest_with_a_tier_that_lanes_do_not_decode_is_matched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qdec.match.tier.CLASSICAL", (Tier.MATCHING,))
    pair = Pair()
    guest = Stream(pair.lane, code=(TEXT.encode(),)).open(
        stream="guest", code="circuit", endless=True, windows=str(GEOMETRY), tier="correlated"
    )
    assert any("is for streams whose configuration names it" in note for note in guest.info.notes)
    records = rounds_of_a_shot(200, 4)
    guest.send(0, records, last=True)
    pair.settle()
    rows = guest.collect()
    assert set(tiers(rows)) == {MATCHING}
    assert pair.fallbacks == {"unfit": len(rows)}
    as_replayed(rows, [records])


class Anything(RuleBasedStateMachine):
    """Two streams, one accelerator, and everything that can come between them."""

    @initialize(batch=st.integers(1, 3))
    def begin(self, batch: int) -> None:
        self.pair = Pair(stream_config("a"), stream_config("b"), batch=batch)
        self.open = {name: self.pair.open(name) for name in ("a", "b")}
        self.rows: dict[str, list[np.ndarray]] = {"a": [], "b": []}
        self.shots: dict[str, list[np.ndarray]] = {"a": [], "b": []}
        self.left: dict[str, np.ndarray] = {}
        self.sent = {"a": 0, "b": 0}
        self.seed = 0
        for name in self.open:
            self.next_shot(name)

    def next_shot(self, name: str) -> None:
        self.seed += 1
        records = rounds_of_a_shot(60 + 7 * (self.seed % 5), self.seed)
        self.shots[name].append(records)
        self.left[name] = records

    def take(self) -> None:
        for name, stream in self.open.items():
            self.rows[name].append(stream.collect_once())

    @rule(name=st.sampled_from("ab"), n=st.integers(1, 40))
    def send(self, name: str, n: int) -> None:
        left = self.left[name]
        if len(left) - n < 25:  # a shot's end comes in one piece
            n = len(left)
        stream = self.open[name]
        if self.sent[name] + n > stream.credit_until:
            return
        assert stream.send(self.sent[name], left[:n], last=n == len(left)) is None
        self.sent[name] += n
        self.left[name] = left[n:]
        if n == len(left):
            self.next_shot(name)

    @rule()
    def the_lane_works(self) -> None:
        self.pair.lane.work()
        assert self.pair.lane.core.wake_at * 1e9 > self.pair.lane.now, "it waits too long"
        self.take()

    @rule()
    def the_accelerator_answers(self) -> None:
        self.pair.turn()

    @rule()
    def the_accelerator_beats(self) -> None:
        if self.pair.worker is not None:
            self.pair.beat()

    @rule()
    def the_accelerator_answers_noise(self) -> None:
        self.pair.turn()
        self.pair.memory[4096 + 64 :: 1 << 15] = bytes(SLOTS)

    @rule()
    def the_accelerator_dies(self) -> None:
        self.pair.die()

    @precondition(lambda self: self.pair.worker is None)
    @rule()
    def another_one_serves(self) -> None:
        self.pair.serve()

    @rule(part=st.sampled_from([0.01, 0.4, 0.99, 1.5, 20]))
    def time_passes(self, part: float) -> None:
        self.pair.lane.now += int(DEADLINE_NS * part)

    @rule(name=st.sampled_from("ab"))
    def a_client_resumes(self, name: str) -> None:
        self.take()
        stream = self.open[name]
        cursor = stream.cursor
        self.pair.lane.core.peer_gone(stream.peer)
        stream = Stream(self.pair.lane, peer=name.encode()).open(stream=name, cursor=cursor)
        self.open[name] = stream
        assert stream.info is not None
        first = stream.info.next_round
        everything = np.concatenate(self.shots[name])
        ends = np.cumsum([len(one) for one in self.shots[name]]).tolist()
        while first < self.sent[name]:
            end = min(self.sent[name], next(e for e in ends if e > first))
            assert stream.send(first, everything[first:end], last=end in ends) is None
            first = end

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        self.pair.lane.now += 2 * DEADLINE_NS
        self.pair.lane.work()
        self.take()
        assert not self.pair.lane.core.awaiting
        for name, rows in self.rows.items():
            taken = np.concatenate(rows)
            ended = self.sent[name] - (len(self.shots[name][-1]) - len(self.left[name]))
            answered = sum(int(n) for n in taken["count"])
            assert answered >= ended, "a window was lost"
            assert answered > self.sent[name] - 20, "a window was lost"
            shots = self.shots[name]
            complete = taken[taken["first_round"] < ended]
            as_replayed(complete, [one for one in shots[:-1] if len(one)])


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
