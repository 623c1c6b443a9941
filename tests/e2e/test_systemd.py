"""The service as systemd sees it: started, confined, watched, logged and stopped by it."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from helpers.accelerated import table
from helpers.sandbox import needs_seccomp
from helpers.services import (
    answers_in,
    lane_pids,
    open_guest,
    rounds_of_a_shot,
    serving_pid,
    stream_all,
    undisturbed,
)
from helpers.systemd import Systemd, systemd
from qdec_tools.service import Service, running_service

UNIT = Path(__file__).parents[2] / "configs" / "systemd" / "qdec@.service"
PING = ["WATCHDOG=1"]
# Half of it is when pings end.
TOLERANCE = {"stall_s": 3.0, "overdue_s": 3.0}


@dataclass
class Watched:
    """A service, and what it tells."""

    service: Service
    told: Systemd

    def process(self, module: str) -> psutil.Process:
        for child in psutil.Process(self.service.pid).children():
            with suppress(psutil.Error):
                if module in child.cmdline():
                    return child
        raise AssertionError(f"no {module}")

    def serving_pid(self) -> int:
        """Of the lane."""
        return serving_pid(
            self.service, log_of=lambda _: "".join(f"{e['MESSAGE']}\n" for e in self.told.journal)
        )

    def pings_between(self, begin: str, end: str) -> int:
        """How many came after words of the status and before those of an entry of the journal."""
        first = max(
            i
            for i, one in enumerate(self.told.told)
            if isinstance(one, list) and any(begin in line for line in one)
        )
        last = next(
            i
            for i, one in enumerate(self.told.told)
            if i > first and isinstance(one, dict) and end in one["MESSAGE"]
        )
        return self.told.told[first:last].count(PING)


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """One lane, a spare, an accelerator; under the unit's filters where they can be had."""
    unit = None if needs_seccomp.args[0] else UNIT
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="qdec-") as folder,
        systemd(Path(folder), patch, unit=unit, watchdog_s=0.4) as told,
        running_service(
            spare_lanes=1,
            settings=TOLERANCE,
            tables=table(Path(folder), "patch0"),
        ) as service,
    ):
        told.until(lambda: "READY=1" in told.notified)
        yield Watched(service, told)


def test_it_is_ready_when_it_is_warm_and_not_before(watched: Watched) -> None:
    told = watched.told
    told.until(lambda: PING in told.told)
    lines = told.notified
    ready = lines.index("READY=1")
    assert lines.count("READY=1") == 1
    assert lines[0].startswith(("STATUS=warming up: 0 of 1 lane", "EXTEND_TIMEOUT_USEC="))
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in lines[:ready])
    assert "WATCHDOG=1" not in lines[:ready]
    # By then lane and accelerator served.
    before = told.told[: told.told.index(["READY=1", f"MAINPID={watched.service.pid}"])]
    said = [one["MESSAGE"] for one in before if isinstance(one, dict)]
    assert any("kinds of windows" in message for message in said), said
    assert said[-1].startswith("ready: ipc://")


@needs_seccomp
def test_every_process_is_confined(watched: Watched) -> None:
    supervisor = psutil.Process(watched.service.pid)
    for process in (supervisor, *supervisor.children()):
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE), process
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE), process


def test_the_status_counts_streams(watched: Watched) -> None:
    told = watched.told
    told.until(lambda: told.status == "serving 0 streams on 1 lane")
    with open_guest(watched.service):
        told.until(lambda: told.status == "serving 1 stream on 1 lane")
    told.until(lambda: told.status == "serving 0 streams on 1 lane")


def test_the_status_says_when_the_accelerator_is_away(watched: Watched) -> None:
    told = watched.told
    watched.process("qdec.accelerator.process").kill()
    told.until(lambda: "accelerator restarting (1st time)" in told.status)
    told.until(lambda: told.status == "serving 0 streams on 1 lane")
    (entry,) = told.logged("ended: killed by SIGKILL")
    assert (entry["PRIORITY"], entry["QDEC_PROCESS"]) == ("4", "supervisor")


def test_a_lane_that_stands_still_is_not_vouched_for_and_replaced(watched: Watched) -> None:
    told, first = watched.told, watched.serving_pid()
    records = rounds_of_a_shot(500, seed=21)
    with open_guest(watched.service) as stream:
        stop = {200: lambda: os.kill(first, signal.SIGSTOP)}
        assert answers_in(stream_all(stream, records, stop)) == undisturbed(records)
        assert stream.resumes >= 1
    assert watched.serving_pid() != first
    assert watched.pings_between("degraded: lane 0 does not turn", "its loop has not turned") == 0
    pings = told.told.count(PING)
    told.until(lambda: told.told.count(PING) > pings)


def test_a_supervisor_that_stood_still_does_not_blame_its_lanes(watched: Watched) -> None:
    before = sorted(lane_pids(watched.service))
    os.kill(watched.service.pid, signal.SIGSTOP)
    time.sleep(TOLERANCE["stall_s"] + 1)
    pings = watched.told.told.count(PING)
    os.kill(watched.service.pid, signal.SIGCONT)
    watched.told.until(lambda: watched.told.told.count(PING) > pings + 5)
    assert sorted(lane_pids(watched.service)) == before


def test_a_lane_that_turns_and_does_not_answer_is_likewise(watched: Watched) -> None:
    told, words = watched.told, "a window has not been answered"
    records = rounds_of_a_shot(500, seed=22)
    with open_guest(watched.service) as stream, ThreadPoolExecutor() as pool:

        def mend() -> None:
            told.until(lambda: told.logged(words))
            told.stuck.unlink()

        def break_() -> None:
            told.stuck.touch()
            mended.append(pool.submit(mend))

        mended: list[Future[None]] = []
        assert answers_in(stream_all(stream, records, {200: break_})) == undisturbed(records)
        assert stream.resumes >= 1
        mended[0].result()
    (entry,) = told.logged(words)
    assert entry["PRIORITY"] == "3"
    assert watched.pings_between("degraded: lane 0 does not answer", words) == 0
    told.until(lambda: told.status == "serving 0 streams on 1 lane")


def test_entries_say_whose_they_are_and_no_secret(watched: Watched) -> None:
    journal = watched.told.journal
    assert {one["QDEC_PROCESS"] for one in journal} >= {"supervisor", "lane0", "accelerator"}
    assert {one["SYSLOG_IDENTIFIER"] for one in journal} == {"qdec"}
    key = (watched.service.folder / "state" / "cursor.key").read_bytes()
    assert not any(key.hex() in value for one in journal for value in one.values())
    assert watched.service.log.read_text() == ""


def test_it_says_that_it_stops_and_how_long_that_may_take(watched: Watched) -> None:
    os.kill(watched.service.pid, signal.SIGTERM)
    psutil.Process(watched.service.pid).wait(20)
    assert ["STOPPING=1", "STATUS=draining", "EXTEND_TIMEOUT_USEC=20000000"] in watched.told.told
    assert watched.told.logged("stopped")
