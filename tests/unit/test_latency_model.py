"""What batches are expected to take: robust to one, quick on two, never stuck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.accelerator.latency import Buckets, LatencyModel
from qdec.errors import ConfigError

SECOND = 1_000_000_000


def test_buckets_hold_what_they_say() -> None:
    buckets = Buckets.doubling(48)
    assert buckets.sizes == (1, 2, 4, 8, 16, 32, 48)
    assert [buckets.of(n) for n in (1, 3, 32, 33, 48, 49)] == [1, 4, 32, 48, 48, 48]
    assert [buckets.passes(n) for n in (1, 48, 49, 97)] == [1, 1, 2, 3]
    assert Buckets.doubling(1).sizes == (1,)


@pytest.mark.parametrize("sizes", [(), (0, 1), (2, 1), (1, 1)])
def test_other_buckets_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="ascending"):
        Buckets(sizes)


def test_one_odd_batch_changes_nothing_two_do_and_sixteen_fast_ones_heal() -> None:
    model = LatencyModel({1: 100})
    for _ in range(20):
        model.learn(1, 100, 0)
    model.learn(1, 5000, 0)
    assert model.expect(1) == 100
    model.learn(1, 4000, 0)
    assert model.expect(1) == 4000
    for _ in range(16):
        model.learn(1, 100, 0)
    assert model.expect(1) == 100


def test_buckets_that_were_never_seen_are_inferred() -> None:
    model = LatencyModel()
    assert model.expect(8) == 0
    model.learn(4, 100, 0)
    assert [model.expect(n) for n in (1, 4, 8)] == [100, 100, 200]
    model.learn(16, 150, 0)
    assert model.expect(8) == 150


@given(
    st.dictionaries(st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 10_000), min_size=1),
    st.lists(st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 10_000)), max_size=40),
)
def test_more_at_once_is_never_expected_to_take_less(
    seeds: dict[int, int], learned: list[tuple[int, int]]
) -> None:
    model = LatencyModel(seeds)
    for now, (bucket, took) in enumerate(learned):
        model.learn(bucket, took, now * SECOND // 2)
        expected = [model.expect(n) for n in (1, 2, 4, 8, 16)]
        assert expected == sorted(expected)


def test_what_was_slow_when_it_last_ran_is_not_for_ever() -> None:
    model = LatencyModel({1: 100, 8: 200})
    for _ in range(2):
        model.learn(8, 10_000, 0)
    for step in range(30):
        model.learn(1, 100, step * SECOND // 10)
    assert model.expect(8) == 800


def test_doubt_halves_an_old_estimate_but_not_below_what_was_measured() -> None:
    model = LatencyModel({1: 100})
    for _ in range(16):
        model.learn(1, 10_000, 0)
    model.doubt(1000)
    assert model.expect(1) == 10_000
    for step in range(1, 20):
        model.doubt(step * SECOND)
    assert model.expect(1) == 100
