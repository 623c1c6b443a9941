"""A service at real-time priority serves, drains and recovers as any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from helpers.realtime import LIBZMQ, PRIORITY, locked_kb, needs_fifo, needs_two_cores, policies
from helpers.services import (
    answers_in,
    lane_pids,
    open_guest,
    rounds_of_a_shot,
    serving_pid,
    stream_all,
    undisturbed,
    wait_for_log,
)
from qdec.cli import EXIT_CONFIG
from qdec_tools.service import running_service


def at_fifo(pid: int) -> bool:
    """A lane at SCHED_FIFO with none of libzmq's threads below it."""
    found = policies(pid)
    libzmq = [has for name, has in found.items() if LIBZMQ in name]
    lane = next(has for name, has in found.items() if name.endswith(f" {pid}"))
    return lane == (os.SCHED_FIFO, PRIORITY) and set(libzmq) == {(os.SCHED_FIFO, PRIORITY + 1)}


def ordinary(pid: int) -> bool:
    return all(policy == os.SCHED_OTHER for policy, _ in policies(pid).values())


@needs_fifo
@needs_two_cores
def test_a_lane_at_fifo_serves_is_replaced_and_drains() -> None:
    records = rounds_of_a_shot(1000, seed=11)
    with running_service(spare_lanes=1) as service:
        first = serving_pid(service)
        assert at_fifo(first)
        spares = [pid for pid in lane_pids(service) if pid != first]
        assert ordinary(service.pid)
        assert not any(map(at_fifo, spares))
        with open_guest(service) as stream:
            kill = {500: lambda: os.kill(first, signal.SIGKILL)}
            assert answers_in(stream_all(stream, records, kill)) == undisturbed(records)
            assert stream.resumes >= 1
        second = serving_pid(service)
        assert second != first
        assert at_fifo(second)
        os.kill(service.pid, signal.SIGTERM)
        psutil.Process(service.pid).wait(20)
        wait_for_log(service, "drained")
        assert "real-time" not in service.log.read_text()


def test_lanes_that_would_leave_no_core_are_ordinary_and_serve() -> None:
    records = rounds_of_a_shot(300, seed=12)
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})  # for the service, which inherits it
    try:
        with running_service() as service, open_guest(service) as stream:
            assert not at_fifo(serving_pid(service))
            assert "leave none for the rest" in service.log.read_text()
            assert answers_in(stream_all(stream, records, {})) == undisturbed(records)
    finally:
        os.sched_setaffinity(0, everywhere)


def test_off_leaves_a_lane_as_it_is() -> None:
    with running_service(settings={"realtime": "off"}) as service:
        pid = serving_pid(service)
        assert ordinary(pid)
        assert locked_kb(pid) == 0


def test_a_lane_that_cannot_have_what_is_required_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "qdec.toml"
    config.write_text(
        f'[service]\nstate_dir = "{tmp_path}"\nrealtime = "require"\n'
        f'[[lane]]\nendpoints = ["ipc://{tmp_path}/lane.ipc"]\ncpu = 8191\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "qdec", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == EXIT_CONFIG
    last = done.stderr.splitlines()[-1]
    assert 'realtime = "require"' in last
    assert "not pinned to core 8191" in last
    assert "set cpu of this [[lane]]" in last


@needs_fifo
@needs_two_cores
def test_another_priority_comes_with_a_reload() -> None:
    records = rounds_of_a_shot(600, seed=13)
    with running_service() as service, open_guest(service) as stream:
        text = service.config.read_text()
        other = text.replace("[service]", "[service]\nrealtime_priority = 31")
        first = serving_pid(service)

        def reload() -> None:
            service.config.write_text(other)
            os.kill(service.pid, signal.SIGHUP)
            wait_for_log(service, "configuration reloaded")

        commits = stream_all(stream, records, {300: reload})
        assert answers_in(commits) == undisturbed(records)
        psutil.Process(first).wait(20)
        found = policies(serving_pid(service)).values()
        assert {priority for policy, priority in found if policy == os.SCHED_FIFO} == {31, 32}
