"""Counters and histograms: fixed memory, honest bounds, the same on both sides of a STATUS."""

from __future__ import annotations

import json
import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.lane.stats import Histogram, LaneStats, bucket_end, dense, quantile

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
    stats = LaneStats(windows=7, late=2)
    stats.window.add(12_345)
    out = stats.as_dict()
    assert json.loads(json.dumps(out)) == out == msgpack.unpackb(msgpack.packb(out))
    assert (out["windows"], out["late"], out["errors"]) == (7, 2, 0)
    assert quantile(dense(out["window"]), 0.5) == pytest.approx(12_345, rel=0.125)


def test_lanes_do_not_share_histograms() -> None:
    one, other = LaneStats(), LaneStats()
    one.queue.add(100)
    assert other.queue.count == 0
