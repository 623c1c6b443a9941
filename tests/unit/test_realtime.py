"""Each set-up runs in a process of its own; what came of it is read from the kernel."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from helpers.realtime import LIBZMQ, needs_fifo, needs_rtprio_limit, needs_two_cores
from qdec.errors import ConfigError
from qdec.findings import Status, fail, ok, warn
from qdec.lane import realtime

FIFO, OTHER = os.SCHED_FIFO, os.SCHED_OTHER
# Ordinary, whoever runs the tests: the user is dropped after the imports, which may need it.
UNPRIVILEGED = """
import resource
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 16))
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
"""
ONE_CORE = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
SCRIPT = """
import json, os, subprocess, sys, threading
import numpy as np
import zmq
from helpers.realtime import locked_kb, policies
from qdec.lane import realtime
context = zmq.Context()
{before}
found = realtime.set_up(context, {cpus}, 0, {mode!r}, 20)
after = dict(policies=policies(os.getpid()), locked=locked_kb(os.getpid()))
after["slack"] = realtime._libc.prctl(30, 0, 0, 0, 0)
# Nothing that was given may make what comes later fail.
grown = np.ones(1 << 20)
for _ in range(4):
    grown = np.resize(grown, 2 * len(grown))
thread = threading.Thread(target=lambda: after.update(thread=policies(os.getpid())))
thread.start(); thread.join()
pair = [context.socket(zmq.PAIR) for _ in range(2)]
pair[0].bind("tcp://127.0.0.1:*")
pair[1].connect(pair[0].last_endpoint.decode())
pair[1].send(b"heard")
after["heard"] = pair[0].recv().decode()
stat = subprocess.check_output(["cat", "/proc/self/stat"], text=True)
after["child"] = int(stat.rpartition(")")[2].split()[38])
print(json.dumps(dict(after, found={{k: [v.status, v.value, v.fix] for k, v in found.items()}})))
"""


def set_up(
    mode: str = "auto", *, before: str = "", cpus: tuple[int | None, ...] = (None,)
) -> dict[str, Any]:
    """Findings of a set-up in a fresh process, and what the kernel says about it."""
    script = SCRIPT.format(before=before, cpus=cpus, mode=mode)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
    )
    after: dict[str, Any] = json.loads(done.stdout)
    assert after["heard"] == "heard"
    return after


def ordinary(after: dict[str, Any]) -> bool:
    """Every thread of the lane's is at SCHED_OTHER."""
    lane = [has for name, has in after["policies"].items() if LIBZMQ not in name]
    return bool(lane) and all(has == [OTHER, 0] for has in lane)


@needs_fifo
@needs_two_cores
def test_the_lane_is_at_fifo_and_libzmq_above_it() -> None:
    after = set_up()
    assert after["found"]["scheduler"][0] == "ok"
    libzmq = {name: has for name, has in after["policies"].items() if LIBZMQ in name}
    others = [has for name, has in after["policies"].items() if name not in libzmq]
    assert any("IO" in name for name in libzmq)
    assert set(map(tuple, libzmq.values())) == {(FIFO, 21)}
    assert others == [[FIFO, 20]]
    assert after["child"] == OTHER
    started = [has for name, has in after["thread"].items() if name not in after["policies"]]
    assert [OTHER, 0] in started


def test_timers_are_exact() -> None:
    after = set_up()
    assert after["found"]["timer slack"][0] == "ok"
    assert after["slack"] <= 1  # newer kernels say 0 for SCHED_FIFO


def test_memory_is_locked_or_the_fix_is_named() -> None:
    after = set_up()
    status, _, fix = after["found"]["memory"]
    assert (after["locked"] > 0) == (status == "ok")
    assert (status == "ok") != ("LimitMEMLOCK=infinity" in fix)


def test_who_may_nothing_goes_on_without() -> None:
    after = set_up(before=UNPRIVILEGED)
    assert ordinary(after)
    assert after["locked"] == 0
    for name, fix in (("scheduler", "LimitRTPRIO=21"), ("memory", "LimitMEMLOCK=infinity")):
        assert after["found"][name][0] == "warn"
        assert fix in after["found"][name][2]


def test_what_is_required_and_missing_fails() -> None:
    after = set_up("require", before=UNPRIVILEGED)
    assert [after["found"][name][0] for name in ("scheduler", "memory")] == ["fail", "fail"]


@needs_rtprio_limit
@needs_two_cores
@pytest.mark.parametrize(("limit", "status"), [(21, "ok"), (20, "warn")])
def test_the_limit_must_reach_libzmqs_threads(limit: int, status: str) -> None:
    """At 20 the lane itself could have SCHED_FIFO, but libzmq would abort the process."""
    after = set_up(before=UNPRIVILEGED.replace("(0, 0)", f"(0, {limit})"))
    assert after["found"]["scheduler"][0] == status
    assert ordinary(after) == (status == "warn")


def test_under_a_limit_that_later_growth_could_reach_nothing_is_locked() -> None:
    roomy = "realtime._address_space = lambda: 0\n"
    after = set_up(before=UNPRIVILEGED + roomy)
    assert after["locked"] == 0
    assert after["found"]["memory"][0] == "warn"


@needs_fifo
def test_on_one_core_fifo_is_taken_only_where_it_is_required() -> None:
    after = set_up(before=ONE_CORE)
    assert ordinary(after)
    assert after["found"]["scheduler"][0] == "warn"
    after = set_up("require", before=ONE_CORE)
    assert after["found"]["scheduler"][0] == "ok"


def test_off_leaves_everything_but_the_core_asked_for() -> None:
    core = min(os.sched_getaffinity(0))
    after = set_up("off", cpus=(core,))
    assert ordinary(after)
    assert after["locked"] == 0
    assert after["slack"] > 1
    assert list(after["found"]) == ["core"]
    assert after["found"]["core"][:2] == ["ok", f"pinned to {core}"]


def test_a_core_that_does_not_exist_is_named_and_the_lane_goes_on() -> None:
    status, value, fix = set_up(cpus=(8191,))["found"]["core"]
    assert status == "warn"
    assert "8191" in value
    assert "cpu" in fix


@needs_fifo
@needs_two_cores
def test_a_lane_is_never_above_io_threads_that_it_cannot_raise() -> None:
    started = "early = context.socket(zmq.PAIR)\n"
    after = set_up(before=started)
    assert ordinary(after)
    assert after["found"]["scheduler"][0] == "warn"


@pytest.mark.parametrize(
    ("reach", "cpus", "lane", "why"),
    [
        ({0, 1}, [None], 0, ""),
        ({0, 1}, [1], 0, ""),
        ({0}, [None], 0, "none for the rest"),
        ({0}, [0], 0, "none for the rest"),
        ({0, 1}, [None, None], 1, "none for the rest"),
        ({0, 1}, [0, 1], 0, "none for the rest"),
        ({0, 1, 2}, [None, 1], 0, ""),
        ({0, 1, 2}, [0, 1], 1, ""),
        ({0, 1, 2, 3}, [2, 2], 0, "another lane has core 2"),
        ({0, 1, 2, 3}, [2, 2, 3], 2, ""),
        # Cores 2 and 3 are isolated: the service itself cannot run there, so they cost it nothing.
        ({0}, [2, 3], 1, ""),
    ],
)
def test_fifo_leaves_a_core_to_the_rest(
    reach: set[int], cpus: list[int | None], lane: int, why: str
) -> None:
    assert why in realtime.crowded(reach, cpus, lane)
    assert bool(why) == bool(realtime.crowded(reach, cpus, lane))


def test_what_is_missing_is_told_and_what_is_required_insisted_on() -> None:
    found = {"core": ok("pinned to 2"), "memory": ok("locked"), "scheduler": warn("none", "a fix")}
    assert realtime.told(found) == [
        (logging.INFO, "core pinned to 2, memory locked"),
        (logging.WARNING, "scheduler: none. To have it: a fix"),
    ]
    realtime.insist(found)
    with pytest.raises(ConfigError, match=r"memory: too small; raise it") as caught:
        realtime.insist({**found, "memory": fail("too small", "raise it")})
    assert "a fix" not in str(caught.value)


def test_statuses_order_by_what_they_cost() -> None:
    assert max(Status, key=lambda status: status.rank) is Status.FAIL
    assert min(Status, key=lambda status: status.rank) is Status.OK
