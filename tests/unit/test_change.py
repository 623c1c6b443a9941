"""What a new configuration, or new files, mean for the processes that run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qdec.config import AcceleratorConfig, Config, LaneConfig, StreamConfig
from qdec.lane.making import Making
from qdec.supervisor.change import incomplete, outdated, torn

A, B = Making(1, 10), Making(2, 10)


def stream(name: str, **options: Any) -> StreamConfig:
    return StreamConfig(**{"name": name, "code": Path("code.stim"), **options})


def config(*streams: StreamConfig, **options: Any) -> Config:
    lanes = tuple(LaneConfig(endpoints=(f"tcp://127.0.0.1:{7600 + i}",)) for i in range(2))
    return Config(lane=lanes, stream=streams, **options)


PLAIN = stream("a"), stream("b", lane=1)
KNOWN = {0: {"a": A, "b": A}, 1: {"a": A, "b": A}}


def test_nothing_changes_for_nobody() -> None:
    assert outdated(config(*PLAIN), config(*PLAIN), KNOWN[0], KNOWN) == set()


@pytest.mark.parametrize(
    ("new", "wanted", "posts"),
    [
        (PLAIN, {"a": B, "b": A}, {("lane", 0)}),
        (PLAIN, {"a": A, "b": B}, {("lane", 1)}),
        ((stream("a", deadline_us=5), PLAIN[1]), {"a": A, "b": A}, {("lane", 0)}),
        ((*PLAIN, stream("c", lane=1)), {"a": A, "b": A, "c": A}, {("lane", 1)}),
        ((stream("a", lane=1), PLAIN[1]), {"a": A, "b": A}, {("lane", 1)}),
        ((stream("a", lanes=(0, 1)), PLAIN[1]), {"a": A, "b": A}, {("lane", 0), ("lane", 1)}),
        (PLAIN[:1], {"a": A}, set()),
    ],
    ids=["file of a", "file of b", "setting", "one more", "moved", "shared", "one less"],
)
def test_lanes_that_own_what_has_changed_are_out_of_date(
    new: tuple[StreamConfig, ...], wanted: dict[str, Making], posts: set[tuple[str, int]]
) -> None:
    assert outdated(config(*PLAIN), config(*new), wanted, KNOWN) == posts


def test_the_accelerator_goes_with_the_networks_of_its_streams() -> None:
    fast = stream("a", tier="speed"), PLAIN[1]
    both = {("lane", 0), ("accelerator", 0)}
    assert outdated(config(*fast), config(*fast), {"a": B, "b": A}, KNOWN) == both
    assert outdated(config(*fast), config(*fast), {"a": A, "b": B}, KNOWN) == {("lane", 1)}
    smaller = config(*fast, accelerator=AcceleratorConfig(batch=8))
    assert outdated(config(*fast), smaller, KNOWN[0], KNOWN) == {("accelerator", 0)}


def test_an_accelerator_that_comes_or_goes_has_no_successor() -> None:
    fast = stream("a", tier="speed"), PLAIN[1]
    for old, new in ((PLAIN, fast), (fast, PLAIN)):
        assert outdated(config(*old), config(*new), {"a": B, "b": A}, KNOWN) == {("lane", 0)}


def test_a_post_that_nobody_serves_is_not_out_of_date() -> None:
    assert outdated(config(*PLAIN), config(*PLAIN), {"a": B, "b": B}, {1: KNOWN[1]}) == {
        ("lane", 1)
    }


def test_open_streams_may_not_change_their_shape() -> None:
    other = {"a": Making(3, 11), "b": Making(3, 11), "c": Making(3, 11)}
    assert torn(other, KNOWN, {"b", "c"}) == ["b"]
    assert torn({"a": B, "b": B}, KNOWN, {"a", "b"}) == []


def test_a_process_that_lacks_a_stream_is_known_by_its_name() -> None:
    assert incomplete({"a": A, "b": A}, {"a": A}) == ["b"]
