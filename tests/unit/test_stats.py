"""Counters and histograms: fixed memory, honest bounds, the same on both sides of a STATUS."""

from __future__ import annotations

import json
import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.lane.stats import (
    MAX_NAMED,
    OUTCOMES,
    Histogram,
    LaneStats,
    Octaves,
    Slot,
    StreamStats,
    bucket_end,
    dense,
    quantile,
)
from qdec.match import Tier

durations = st.integers(0, 2**62)


@given(durations)
def test_a_bucket_holds_its_duration_and_is_at_most_an_eighth_wide(ns: int) -> None:
    one = Histogram()
    one.add(ns)
    end = one.quantile(1.0)
    (index,) = (i for i, n in enumerate(one.counts) if n)
    assert end == bucket_end(index)
    # Exact up to rounding in a float: a bucket's end belongs to the next one.
    assert float(max(ns, 16)) <= end <= max(ns, 16) * 1.125 + 1e-9
    assert one.total_ns == max(ns, 16)


@given(st.lists(durations, min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_the_end_of_the_bucket_it_falls_into(values: list[int], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    ranked = sorted(max(16, v) for v in values)
    true = ranked[max(0, math.ceil(q * len(values)) - 1)]
    assert float(true) <= histogram.quantile(q) <= true * 1.125 + 1e-9
    assert histogram.count == len(values)


def test_adding_several_at_once_is_adding_each() -> None:
    a, b = Histogram(), Histogram()
    a.add(1000, 3)
    for _ in range(3):
        b.add(1000)
    assert a.counts == b.counts
    assert a.total_ns == b.total_ns == 3000


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(Histogram().quantile(0.5))
    assert math.isnan(quantile([], 0.5))


@given(st.lists(durations, max_size=30))
def test_sparse_and_dense_are_inverse_also_over_the_wire(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    sent = msgpack.unpackb(msgpack.packb(histogram.sparse()))
    assert dense(sent) == histogram.counts
    assert len(histogram.counts) == 512


def test_counters_travel() -> None:
    stats = LaneStats(rounds=70)
    stats.answered(Tier.MATCHING, 7, late=2, preempted=1)
    stats.window.add(12_345)
    out = stats.as_dict()
    assert json.loads(json.dumps(out)) == out == msgpack.unpackb(msgpack.packb(out))
    assert (out["rounds"], out["windows"], out["late"], out["preempted"]) == (70, 7, 2, 1)
    assert out["errors"] == 0
    assert quantile(dense(out["window"]), 0.5) == pytest.approx(12_345, rel=0.125)


def test_lanes_do_not_share_histograms() -> None:
    one, other = LaneStats(), LaneStats()
    one.queue.add(100)
    assert other.queue.count == 0


def test_windows_are_counted_once_by_tier_and_outcome() -> None:
    stats = LaneStats()
    stats.answered(Tier.MATCHING, 5)
    stats.answered(Tier.MATCHING, 10, late=4, preempted=3)
    stats.answered(Tier.CORRELATED, 2, late=2)
    assert dict(zip(OUTCOMES, stats.answers(Tier.MATCHING), strict=True)) == {
        "in_time": 11,
        "late": 1,
        "preempted": 3,
    }
    assert stats.answers(Tier.CORRELATED) == [0, 2, 0]
    # Outcomes are exclusive; "late" as STATUS_REPLY has it means every deadline missed.
    assert (stats.windows, stats.late, stats.preempted) == (17, 6, 3)
    stream = StreamStats()
    stream.answered(10, late=4, preempted=3)
    assert [getattr(stream, name) for name in OUTCOMES] == [6, 1, 3]


def test_every_tier_has_its_place() -> None:
    stats = LaneStats()
    for tier in Tier:
        stats.answered(tier, int(tier))
    assert [stats.answers(tier)[0] for tier in Tier] == list(Tier)


@given(st.lists(durations, max_size=30))
def test_octaves_are_exact_at_powers_of_two(values: list[int]) -> None:
    fine, coarse = Histogram(), Octaves()
    for value in values:
        fine.add(value)
        coarse.add(max(16, value))
    assert fine.octaves == coarse.octaves
    for k in range(5, 64):
        assert sum(fine.octaves[:k]) == sum(value < 1 << k for value in values)


def test_short_durations_have_their_place() -> None:
    coarse = Octaves()
    for ns in (0, 1, 2, 3):
        coarse.add(ns)
    assert coarse.octaves[:2] == [2, 2]


def test_a_slot_goes_on_where_its_last_writer_was_killed() -> None:
    memory = bytearray(Slot.BYTES)
    first = Slot(memory)
    first.lane.rounds += 5
    first.lane.window.add(1000)
    first.lane.backlog_rounds = 7
    patch = first.stream("patch0")
    patch.rounds += 3
    patch.show(is_open=True, backlog=2, credit=9)
    assert first.stream("patch0") is patch

    second = Slot(memory)
    assert (second.lane.rounds, second.lane.window.count) == (5, 1)
    assert second.stream("patch0").rounds == 3
    second.stream("patch1").rounds += 1
    second.lane.rounds += 1
    assert second.lane.named == 2
    # What was so a moment ago is not so any more.
    assert second.lane.backlog_rounds == 0
    again = second.stream("patch0")
    assert (again.open, again.backlog_rounds, again.credits_rounds) == (0, 0, 0)


def test_a_full_slot_still_counts_its_lane() -> None:
    slot = Slot()
    for i in range(MAX_NAMED):
        slot.stream(f"s{i}").rounds += i
    beyond = slot.stream("one too many")
    beyond.rounds += 1
    assert slot.lane.named == MAX_NAMED
    assert slot.stream(f"s{MAX_NAMED - 1}").rounds == MAX_NAMED - 1
    assert slot.stream("x" * 64).rounds == 0
