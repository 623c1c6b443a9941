"""Who is started when, with whom, and who is refused: on a simulated engine, in virtual time."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.engines import Log, Simulation, affine, seeds
from qdec.accelerator.latency import Buckets, LatencyModel
from qdec.accelerator.scheduler import NEVER, Scheduler
from qdec.accelerator.work import (
    Hung,
    Priority,
    Reason,
    Skip,
    Start,
    StreamTerms,
    Terms,
    WaitUntil,
    Work,
)
from qdec.errors import ConfigError

FIXED, EACH = 100_000, 10_000
BUCKETS = Buckets.doubling(32)
FULL = FIXED + EACH * BUCKETS.most
ONE = FIXED + EACH
CALIBRATION = Priority.CALIBRATION


def scheduler(
    *streams: StreamTerms, kinds: int = 1, seeded: bool = True, **terms: int
) -> Scheduler:
    models = {
        kind: LatencyModel(seeds(FIXED, EACH, BUCKETS) if seeded else None)
        for kind in range(1, 1 + kinds)
    }
    return Scheduler(streams or (StreamTerms(BUCKETS),), models, Terms(**terms))


def started(decisions: list) -> list[list[int]]:
    return [[w.number for w in d.batch.work] for d in decisions if isinstance(d, Start)]


def skipped(decisions: list) -> list[tuple[int, Reason]]:
    return [(d.work.number, d.reason) for d in decisions if isinstance(d, Skip)]


# -- whatever comes ------------------------------------------------------------------------------

WORKS = st.lists(
    st.tuples(
        st.integers(0, 5 * FULL),  # comes
        st.integers(1, 3),  # kind
        st.sampled_from([1, 1, 1, 2, 5, 40]),  # windows
        st.integers(0, 6 * FULL),  # allowed
        st.integers(0, 3),  # lane
        st.sampled_from([Priority.DECODING, Priority.DECODING, CALIBRATION]),
    ),
    max_size=60,
)
STREAMS = st.lists(
    st.builds(
        StreamTerms,
        st.just(BUCKETS),
        st.sampled_from([tuple(Priority), (Priority.DECODING,)]),
        st.integers(1, 2),
    ),
    min_size=1,
    max_size=3,
)


def arrivals(drawn: list) -> list[tuple[int, Work]]:
    return [
        (come, Work(number, kind, windows, come + allowed, lane, priority))
        for number, (come, kind, windows, allowed, lane, priority) in enumerate(drawn)
    ]


def check(works: list[tuple[int, Work]], log: Log) -> None:
    """What holds whatever the engine does."""
    assert not log.started.keys() & log.skipped.keys()
    assert log.started.keys() | log.skipped.keys() == {work.number for _, work in works}
    for _, _, batch in log.batches:
        assert {(one.kind, one.priority) for one in batch.work} == {
            (batch.kind, batch.work[0].priority)
        }
        windows = sum(one.windows for one in batch.work)
        assert windows <= batch.bucket * batch.passes
        assert batch.passes == 1 or len(batch.work) == 1
        assert [one.give_up for one in batch.work] == sorted(one.give_up for one in batch.work)
    came = {work.number: at for at, work in works}
    first = {number: (at, batch) for number, (at, batch, _) in log.started.items()}
    for _, work in works:  # nobody's head is passed over by who is less urgent
        if work.number not in first:
            continue
        at, batch = first[work.number]
        if batch.work[0].number == work.number:
            for _, other in works:
                if (other.kind, other.priority) != (work.kind, work.priority):
                    continue
                if came[other.number] < at and other.give_up < work.give_up:
                    begun = first.get(other.number, (log.skipped.get(other.number, (0,))[0],))[0]
                    assert begun <= at


@given(WORKS, STREAMS, st.sampled_from([0, 50_000]))
@settings(max_examples=150, deadline=None)
def test_everything_is_started_or_skipped_once_and_on_time(
    drawn: list, streams: list[StreamTerms], wait: int
) -> None:
    works = arrivals(drawn)
    one = scheduler(*streams, kinds=3, wait_ns=wait)
    log = Simulation(one, affine(FIXED, EACH)).run(works)
    check(works, log)
    assert (one.waiting, one.out) == (0, 0)
    for _, work in works:
        if work.number in log.started:
            assert log.ended[work.number] <= work.give_up


@given(WORKS, STREAMS, st.integers(0, 1000), st.booleans())
@settings(max_examples=100, deadline=None)
def test_nothing_is_lost_on_an_engine_that_does_as_it_likes(
    drawn: list, streams: list[StreamTerms], seed: int, seeded: bool
) -> None:
    rng = random.Random(seed)
    works = arrivals(drawn)
    one = scheduler(*streams, kinds=3, seeded=seeded)
    log = Simulation(one, lambda _batch, _stream: int(FULL * rng.expovariate(1)) + 1).run(works)
    check(works, log)


# -- one thing at a time -------------------------------------------------------------------------


def test_the_earliest_deadline_goes_first_with_all_of_its_kind_that_fit() -> None:
    one = scheduler(kinds=2)
    for number, (kind, give_up) in enumerate([(1, 30), (2, 20), (1, 40), (2, 50)]):
        assert one.add(Work(number, kind, 1, give_up * FULL), 0) is None
    (start, _) = one.decide(0)
    assert [work.number for work in start.batch.work] == [1, 3]
    assert start.batch.bucket == 2


def test_what_would_be_late_is_refused_when_it_comes() -> None:
    one = scheduler()
    assert one.add(Work(0, 1, 1, ONE - 1), 0).reason is Reason.LATE
    for number in range(1, 65):
        assert one.add(Work(number, 1, 1, 2 * FULL), 0) is None
    assert one.add(Work(65, 1, 1, 2 * FULL), 0).reason is Reason.BUSY
    assert one.add(Work(66, 1, 1, 2 * FULL - 1), 0) is None, "more urgent than they"
    (start, _) = one.decide(0)
    assert start.batch.work[0].number == 66


def test_what_an_engine_has_makes_others_late() -> None:
    one = scheduler()
    one.add(Work(0, 1, 32, NEVER), 0)
    one.decide(0)
    assert one.add(Work(1, 1, 1, FULL + ONE), 0) is None
    assert one.add(Work(2, 1, 1, FULL + ONE + EACH - 1), 0).reason is Reason.BUSY


def test_once_something_was_refused_there_must_be_time_for_full_batches() -> None:
    one = scheduler()
    one.add(Work(0, 1, 32, NEVER), 0)
    one.decide(0)
    assert one.add(Work(1, 1, 1, FULL + ONE - 1), 0).reason is Reason.BUSY
    sixteen = FIXED + 16 * EACH  # takes no more than what 0.6 of the time is
    assert one.add(Work(2, 1, 1, FULL + sixteen - 1), 0).reason is Reason.BUSY
    assert one.add(Work(3, 1, 1, FULL + sixteen), 0) is None


def test_who_is_overtaken_is_dropped_as_soon_as_that_is_known() -> None:
    one = scheduler()
    one.add(Work(0, 1, 1, NEVER), 0)
    one.decide(0)
    one.add(Work(1, 1, 1, 2 * ONE), 0)
    assert skipped(one.decide(ONE)) == []
    late = one.decide(ONE)[-1]
    assert late == WaitUntil(ONE + 1), "the batch that is out does not come back"
    assert skipped(one.decide(ONE + 1)) == [(1, Reason.OVERTAKEN)]


def test_a_batch_is_as_large_as_its_most_urgent_work_affords() -> None:
    one = scheduler()
    one.add(Work(0, 1, 1, FIXED + 8 * EACH), 0)
    for number in range(1, 32):
        one.add(Work(number, 1, 1, NEVER), 0)
    assert started(one.decide(0)) == [list(range(8))]


def test_work_that_no_bucket_holds_runs_alone_in_passes() -> None:
    one = scheduler()
    one.add(Work(0, 1, 70, NEVER), 0)
    one.add(Work(1, 1, 1, NEVER), 0)
    (start, _) = one.decide(0)
    assert (start.batch.bucket, start.batch.passes, len(start.batch.work)) == (32, 3, 1)
    assert one.add(Work(2, 1, 65, 3 * FULL - 1), 0).reason is Reason.LATE


def test_waiting_for_more_ends_when_the_oldest_can_afford_no_more() -> None:
    patient = scheduler(wait_ns=1_000_000)
    patient.add(Work(0, 1, 1, ONE + 300_000), 0)
    two = FIXED + 2 * EACH
    assert patient.decide(0) == [WaitUntil(ONE + 300_000 - two)]
    patient.add(Work(1, 1, 1, NEVER), 100_000)
    four = FIXED + 4 * EACH
    assert patient.decide(100_000) == [WaitUntil(ONE + 300_000 - four)]
    assert started(patient.decide(ONE + 300_000 - four)) == [[0, 1]]

    hasty = scheduler(wait_ns=20_000)
    hasty.add(Work(0, 1, 1, NEVER), 5)
    assert hasty.decide(5) == [WaitUntil(20_005)]
    assert started(hasty.decide(20_005)) == [[0]]


def test_a_full_batch_or_another_kind_ends_the_wait() -> None:
    one = scheduler(kinds=2, wait_ns=1_000_000)
    one.add(Work(0, 1, 1, NEVER), 0)
    one.add(Work(1, 2, 1, NEVER), 0)
    assert started(one.decide(0)) == [[0]]
    full = scheduler(wait_ns=1_000_000)
    full.add(Work(0, 1, 32, NEVER), 0)
    assert started(full.decide(0)) == [[0]]


def test_a_busy_stream_gets_its_next_batch_a_little_before_it_is_free() -> None:
    one = scheduler(StreamTerms(BUCKETS, most=2), lead_ns=30_000)
    one.add(Work(0, 1, 1, NEVER), 0)
    one.decide(0)
    one.add(Work(1, 1, 1, NEVER), 10)
    assert one.decide(10) == [WaitUntil(ONE - 30_000)]
    assert started(one.decide(ONE - 30_000)) == [[1]]
    one.add(Work(2, 1, 1, NEVER), ONE)
    assert started(one.decide(ONE)) == [], "it has two"


def test_streams_work_side_by_side_and_come_back_in_any_order() -> None:
    one = scheduler(*[StreamTerms(Buckets((1,)))] * 3)
    for number in range(4):
        one.add(Work(number, 1, 1, NEVER), 0)
    starts = [d for d in one.decide(0) if isinstance(d, Start)]
    assert [start.stream for start in starts] == [0, 1, 2]
    assert one.completed(starts[1].batch.number, 10).work[0].number == 1
    assert [d.stream for d in one.decide(10) if isinstance(d, Start)] == [1]
    assert one.completed(starts[1].batch.number, 20) is None


def test_a_batch_that_never_comes_back_is_hung() -> None:
    one = scheduler(StreamTerms(BUCKETS), StreamTerms(BUCKETS), hang_ns=5_000_000)
    one.add(Work(0, 1, 1, NEVER), 0)
    (start, wait) = one.decide(0)
    assert wait == WaitUntil(5_000_000)
    assert one.decide(4_999_999)[-1] == WaitUntil(5_000_000)
    assert one.decide(5_000_000) == [Hung(0, start.batch)]


def test_a_large_batch_is_given_the_time_that_it_takes() -> None:
    one = scheduler(hang_ns=1)
    one.add(Work(0, 1, 32, NEVER), 0)
    assert one.decide(0)[-1] == WaitUntil(20 * FULL)


def test_at_equal_deadlines_lanes_take_turns() -> None:
    one = scheduler(StreamTerms(Buckets((4,))))
    for number in range(12):
        one.add(Work(number, 1, 1, NEVER, lane=0), 0)
    for number in range(12, 16):
        one.add(Work(number, 1, 1, NEVER, lane=1), 0)
    served = []
    for now in range(3):
        (start, _) = one.decide(now)
        served.append(Counter(work.lane for work in start.batch.work))
        one.completed(start.batch.number, now)
    assert served[:2] == [{0: 2, 1: 2}, {0: 2, 1: 2}]


def test_streams_without_work_are_refused() -> None:
    with pytest.raises(ConfigError):
        StreamTerms(BUCKETS, most=0)
    with pytest.raises(ConfigError):
        StreamTerms(BUCKETS, takes=())


# -- calibration ---------------------------------------------------------------------------------


def test_calibration_waits_for_decoding_and_then_runs_one_batch_at_a_time() -> None:
    one = scheduler(StreamTerms(BUCKETS), StreamTerms(BUCKETS), kinds=2)
    for number in range(2):
        one.add(Work(number, 2, 32, NEVER, priority=CALIBRATION), 0)
    one.add(Work(2, 1, 1, NEVER), 0)
    starts = [d for d in one.decide(0) if isinstance(d, Start)]
    assert [(d.stream, d.batch.work[0].number) for d in starts] == [(0, 2), (1, 0)]
    one.completed(starts[0].batch.number, ONE)
    assert started(one.decide(ONE)) == []
    one.completed(starts[1].batch.number, FULL)
    assert started(one.decide(FULL)) == [[1]]


def test_calibration_that_would_hold_decoding_up_for_too_long_is_refused() -> None:
    one = scheduler(section_ns=FIXED + 2 * EACH)
    one.add(Work(0, 1, 2, NEVER, priority=CALIBRATION), 0)
    one.add(Work(1, 1, 1, NEVER, priority=CALIBRATION), 0)
    assert started(one.decide(0)) == [[0]], "not both: they would take longer"
    one = scheduler(section_ns=FIXED + 2 * EACH)
    one.add(Work(0, 1, 3, NEVER, priority=CALIBRATION), 0)
    assert skipped(one.decide(0)) == [(0, Reason.LONG)]
    own = StreamTerms(BUCKETS, (CALIBRATION,))
    other = StreamTerms(BUCKETS, (Priority.DECODING,))
    one = scheduler(other, own, section_ns=1)
    one.add(Work(0, 1, 32, NEVER, priority=CALIBRATION), 0)
    assert started(one.decide(0)) == [[0]]
    assert scheduler(other).add(Work(0, 1, 1, NEVER, priority=CALIBRATION), 0) is not None


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_calibration_costs_decoding_one_of_its_batches_and_does_not_starve(load: float) -> None:
    section = FIXED + 4 * EACH
    allowed = 3 * FULL + section
    decoding = poisson(load, 60, allowed)
    asked = [
        (at, Work(1_000_000 + at, 2, 4, NEVER, priority=CALIBRATION))
        for at in range(0, 60 * FULL, 10 * FULL)
    ]
    one = scheduler(kinds=2, section_ns=section)
    log = Simulation(one, affine(FIXED, EACH)).run(decoding + asked)
    assert all(work.number in log.ended for _, work in asked)
    alone = Simulation(scheduler(), affine(FIXED, EACH)).run(decoding)
    works = [work for _, work in decoding]
    assert log.in_time(works) >= 0.99 * alone.in_time(works)
    for at, _, batch in log.batches:
        if batch.work[0].priority is CALIBRATION:
            assert log.ended[batch.work[0].number] - at <= section
            begun = [
                (came, log.started[w.number][0]) for came, w in decoding if w.number in log.started
            ]
            assert not [came for came, start in begun if came < at < start], "decoding waited"


# -- too much of it ------------------------------------------------------------------------------


def poisson(load: float, batches: int, allowed: int, seed: int = 1) -> list[tuple[int, Work]]:
    """Windows at so many times what full batches on one stream would do."""
    rng, at, found = random.Random(seed), 0, []
    while at < batches * FULL:
        at += int(rng.expovariate(load * BUCKETS.most / FULL)) + 1
        found.append((at, Work(len(found), 1, 1, at + allowed, len(found) % 4)))
    return found


LOADS = (0.2, 0.6, 1.0, 1.2, 1.6, 2.0, 3.0)


@pytest.mark.parametrize(("allowed", "streams"), [(1.2, 1), (1.6, 1), (2.5, 1), (5, 1), (2.5, 3)])
def test_more_load_than_can_be_served_does_not_lower_what_is(allowed: float, streams: int) -> None:
    done = {}
    for load in LOADS:
        works = poisson(load * streams, 100, int(allowed * FULL))
        one = scheduler(*[StreamTerms(BUCKETS)] * streams)
        log = Simulation(one, affine(FIXED, EACH)).run(works, until=100 * FULL)
        assert all(log.ended[n] <= works[n][1].give_up for n in log.ended), "none is late"
        done[load] = log.in_time(work for _, work in works) / (100 * BUCKETS.most * streams)
    peak = max(done.values())
    assert all(done[load] >= 0.95 * peak for load in LOADS if load >= 1.2), done
    assert done[0.2] >= 0.195
    if allowed >= 2:  # for full batches there is time
        assert peak >= 0.95
        assert done[0.6] >= 0.58


def test_an_engine_that_was_slow_for_a_while_is_used_again() -> None:
    slow = range(20 * FULL, 40 * FULL)
    sim: Simulation

    def latency(batch, stream: int) -> int:
        usual = affine(FIXED, EACH)(batch, stream)
        return 50 * usual if sim.now in slow else usual

    sim = Simulation(scheduler(), latency)
    works = poisson(0.5, 200, 3 * FULL)
    log = sim.run(works)
    late = [work for at, work in works if log.ended.get(work.number, 0) > work.give_up]
    assert len(late) <= 3 * BUCKETS.most, "it is noticed at once"
    after = [work for at, work in works if at > 100 * FULL]
    assert log.in_time(after) >= 0.99 * len(after)


def test_now_and_then_an_odd_batch_makes_nobody_else_be_refused() -> None:
    rng = random.Random(3)

    def latency(batch, stream: int) -> int:
        return affine(FIXED, EACH)(batch, stream) * (1 if rng.random() < 0.97 else 3)

    works = poisson(0.5, 300, 6 * FULL)
    log = Simulation(scheduler(), latency).run(works)
    assert log.in_time(work for _, work in works) >= 0.98 * len(works)
