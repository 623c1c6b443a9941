"""Blocks from other processes: the same ones, in order, never too many, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from helpers import feeds
from helpers.feeds import SLOT_BYTES, Failing, Noted
from qdec.errors import ConfigError, FeedError
from qdec.neural.ising.patch import Orientation
from qdec_tools.noise import uniform
from qdec_tools.training.feed import Block, Feed, block_rng
from qdec_tools.training.ising_data import IsingBlocks, kinds


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def check(block: Block, number: int, make: Callable[[], Any] = Noted) -> None:
    assert block.number == number
    expected = make().block(number)
    assert len(block.arrays) == len(expected)
    for found, wanted in zip(block.arrays, expected, strict=True):
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("slots", [1, 2])
def test_blocks_depend_on_their_number_alone(workers: int, slots: int) -> None:
    with Feed(Noted, workers=workers, slot_bytes=SLOT_BYTES, slots=slots, first=5) as feed:
        for number in range(5, 30):
            check(next(feed), number)


def test_a_run_that_goes_on_sees_what_it_would_have_seen() -> None:
    few = kinds(
        [3, 5], [uniform(0.01)], bases=["X"], orientations=[Orientation.ZH], ends=["middle"]
    )
    make = partial(IsingBlocks, few, 64, 7)
    with Feed(make, workers=2, slot_bytes=make().largest_bytes, first=1000) as feed:
        for number in range(1000, 1006):
            check(next(feed), number, make)


def test_what_is_checked_with_is_not_what_is_trained_on() -> None:
    draws = {
        block_rng(s, n, stream).random() for s in range(3) for n in range(3) for stream in range(3)
    }
    assert len(draws) == 27
    ising = [IsingBlocks(kinds([3], [uniform(0.1)]), 8, 7, stream).block(0) for stream in range(2)]
    assert ising[0][0].tobytes() != ising[1][0].tobytes()


def test_workers_wait_for_the_reader(tmp_path: Path) -> None:
    slots, read = 3, 4
    make = partial(Noted, tmp_path)
    with Feed(make, workers=1, slot_bytes=SLOT_BYTES, slots=slots) as feed:
        for _ in range(read):
            next(feed)
        # The reader has one slot, the others are full, and one more block waits to be written.
        most = read + slots
        eventually(lambda: len(list(tmp_path.iterdir())) == most)
        time.sleep(0.2)
        assert len(list(tmp_path.iterdir())) == most


def test_a_worker_that_is_killed_is_noticed_and_named() -> None:
    with Feed(Noted, workers=2, slot_bytes=SLOT_BYTES) as feed:
        next(feed)
        os.kill(feed.processes[1].pid, signal.SIGKILL)
        with pytest.raises(FeedError, match=r"worker 1 was killed by SIGKILL.*last checkpoint"):
            list(islice(feed, 10))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("refused", "worker 1 failed: no more data"),
        ("by mistake", "worker 1 ended with status 1"),
        ("too large", "block 3 takes 32,832 bytes, its slot has 4,096"),
    ],
)
def test_a_worker_that_fails_says_why(how: str, says: str) -> None:
    with Feed(partial(Failing, how), workers=2, slot_bytes=SLOT_BYTES) as feed:
        for number in range(3):
            check(next(feed), number)
        with pytest.raises(FeedError, match=says):
            next(feed)


def test_a_closed_feed_leaves_no_process_and_says_that_it_is_closed() -> None:
    feed = Feed(Noted, workers=2, slot_bytes=SLOT_BYTES)
    kept = next(feed).arrays[0]
    pids = [process.pid for process in feed.processes]
    feed.close()
    feed.close()
    assert all(gone(pid) for pid in pids)
    assert kept.sum() >= 0  # what was read can still be looked at
    with pytest.raises(FeedError, match="closed"):
        next(feed)


@pytest.mark.parametrize(
    "change",
    [
        {"workers": -1},
        {"workers": 257},
        {"slots": 0},
        {"slot_bytes": 0},
        {"slot_bytes": 1 << 50},
        {"first": -1},
        {"workers": 256, "slot_bytes": 1 << 30},
    ],
)
def test_numbers_out_of_bounds_are_refused_before_anything_starts(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="write"):
        Feed(Noted, **{"workers": 1, "slot_bytes": 64, **change})


class Reader:
    """A process of its own that reads a feed, as training does, in a session of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, feeds.__file__, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(feeds.__file__).parents[1])},
        )
        assert self.process.stdout is not None
        self.workers = [int(pid) for pid in self.process.stdout.readline().split()]
        assert len(self.workers) == 2

    def end(self) -> str:
        return self.process.communicate(timeout=30)[1]


def test_workers_go_when_the_reader_is_killed(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.process.kill()
    reader.end()
    eventually(lambda: all(gone(pid) for pid in reader.workers))


def test_ctrl_c_ends_the_reader_and_the_workers_say_nothing(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    os.killpg(reader.process.pid, signal.SIGINT)  # as a terminal does: to all of them
    errors = reader.end()
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")
    assert all(gone(pid) for pid in reader.workers)
