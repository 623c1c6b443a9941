"""A service with an accelerator process that is stopped, killed and reconfigured in mid-stream."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from helpers.accelerators import as_replayed
from helpers.replays import qdec
from helpers.services import (
    CODE,
    GEOMETRY,
    PATIENT,
    TEXT,
    lane_pids,
    rounds_of_a_shot,
    wait_for_log,
)
from qdec.client import Stream, open_stream, service_status
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import Service, running_service

MATCHING, CORRELATED = int(Tier.MATCHING), int(Tier.CORRELATED)
SERVES = "kinds of windows"
# Long enough for a machine that is busy with other tests.
IN_TIME_US, SOON_US = 20_000_000, 300_000


def table(folder: Path, name: str, deadline_us: int = IN_TIME_US, **options: object) -> str:
    (folder / "code.stim").write_text(TEXT)
    given = {"endless": "true", "lane": 0, "tier": '"correlated"', "accelerated": "true"}
    lines = [f"{key} = {value}" for key, value in {**given, **options}.items()]
    return "\n".join(
        [
            "[[stream]]",
            f'name = "{name}"',
            f'code = "{folder / "code.stim"}"',
            f'windows = "{GEOMETRY}"',
            f"deadline_us = {deadline_us}",
            *lines,
            "",
        ]
    )


def accelerator_pid(service: Service) -> int:
    for child in psutil.Process(service.pid).children():
        with suppress(psutil.Error):
            if "qdec.accelerator.process" in child.cmdline():
                return child.pid
    raise AssertionError("there is no accelerator")


def wait_for_accelerators(service: Service, count: int) -> None:
    for _ in range(600):
        if service.log.read_text().count(SERVES) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(service.log.read_text())


class Client:
    """Sends an endless shot, a window at a time, and keeps the commits."""

    def __init__(self, stream: Stream, rounds: int, seed: int) -> None:
        self.stream = stream
        self.records = rounds_of_a_shot(rounds, seed)
        self.sent = 0
        self.rows: list[np.ndarray] = []

    def step(self, *, last: bool = False) -> int:
        """Send the next rounds; the tier of the last window that they completed."""
        end = len(self.records) if last else self.sent + (GEOMETRY.commit if self.sent else 20)
        self.stream.send(np.ascontiguousarray(self.records[self.sent : end]), last=last)
        self.sent = end
        while self.stream.committed < end - (0 if last else 10):
            self.rows += self.stream.poll(0.05)
        return int(self.rows[-1]["tier"][-1])

    def until(self, tier: int, at_most: int = 300) -> None:
        """Go on until a tier answers."""
        for _ in range(at_most):
            if self.step() == tier:
                return
        raise AssertionError(f"tier {tier} never answers")

    @property
    def commits(self) -> np.ndarray:
        return np.concatenate(self.rows)


def test_undisturbed_it_answers_every_window_of_every_lane(tmp_path: Path) -> None:
    shots, length = 12, CODE.spacetime.rounds
    records = np.stack([EndlessSampler(CODE, seed).close(length) for seed in range(shots)])
    expected, _ = OfflineDecoder(CODE, Tier.CORRELATED, GEOMETRY).decode(records)
    tables = [table(tmp_path, f"s{i}", endless="false", lane=i) for i in range(2)]
    with running_service(lanes=2, tables="".join(tables)) as service:
        wait_for_log(service, "ready: ")
        wait_for_log(service, SERVES)
        for lane in range(2):
            with open_stream(service.endpoints[lane], f"s{lane}", patience=PATIENT) as stream:
                assert any("the accelerator answers" in note for note in stream.info.notes)
                stream.send(records.reshape(-1, records.shape[-1]))
                rows = np.concatenate(stream.drain())
            assert set(rows["tier"].tolist()) == {CORRELATED}
            assert np.isnan(rows["confidence"]).all()
            as_replayed(rows, list(records))
            ends = np.flatnonzero((rows["first_round"] + rows["count"]) % length == 0)
            np.testing.assert_array_equal(rows["frame"][ends], expected)
            status = service_status(service.endpoints[lane])
            assert not any(status["fallbacks"].values())


def test_stopping_and_killing_it_changes_nothing_but_tier_labels(tmp_path: Path) -> None:
    tables = table(tmp_path, "s", SOON_US)
    with running_service(tables=tables, settings={"stall_s": 60}) as service:
        wait_for_log(service, SERVES)
        with open_stream(service.endpoint, "s", patience=PATIENT) as stream:
            client = Client(stream, 20_000, seed=5)
            client.until(CORRELATED)
            os.kill(accelerator_pid(service), signal.SIGSTOP)
            client.until(MATCHING)
            for _ in range(5):
                client.step()
            os.kill(accelerator_pid(service), signal.SIGCONT)
            client.until(CORRELATED)

            os.kill(accelerator_pid(service), signal.SIGKILL)
            client.until(MATCHING)
            for _ in range(5):
                client.step()
            wait_for_accelerators(service, 2)
            client.until(CORRELATED)

            client.records = np.concatenate(
                [client.records[: client.sent], client.records[-20:]], dtype=np.uint8
            )
            client.step(last=True)
            assert stream.resumes == 0
        as_replayed(client.commits, [client.records])
        status = service_status(service.endpoint)
        assert status["fallbacks"]["down"] > 0
        assert status["windows"] == len(client.commits)
        assert len(lane_pids(service)) == 1, "the lane went on"


def test_a_reload_starts_and_ends_it(tmp_path: Path) -> None:
    plain = table(tmp_path, "plain", tier='"matching"', accelerated="false")
    with running_service(tables=plain) as service:
        wait_for_log(service, "ready: ")
        with pytest.raises(AssertionError):
            accelerator_pid(service)
        text = service.config.read_text()
        with open_stream(service.endpoint, "plain", patience=PATIENT) as bystander:
            other = Client(bystander, 4000, seed=6)
            other.step()
            service.config.write_text(text + table(tmp_path, "late"))
            os.kill(service.pid, signal.SIGHUP)
            wait_for_log(service, SERVES)
            with open_stream(service.endpoint, "late", patience=PATIENT) as stream:
                Client(stream, 4000, seed=7).until(CORRELATED)
            service.config.write_text(text)
            os.kill(service.pid, signal.SIGHUP)
            wait_for_log(service, "child 2 drained")
            other.step()
            assert bystander.resumes == 0


def test_what_it_cannot_compile_is_refused_by_line(tmp_path: Path) -> None:
    config = tmp_path / "qdec.toml"
    (tmp_path / "odd.dem").write_text(f"{CODE.dem}\nerror(0.7) D0\n")
    config.write_text(
        f'[service]\nstate_dir = "{tmp_path}/state"\n'
        f'[[lane]]\nendpoints = ["ipc://{tmp_path}/lane.ipc"]\n'
        '[[stream]]\nname = "s"\ncode = "odd.dem"\ntier = "correlated"\naccelerated = true\n'
    )
    for more in (["--check"], []):
        done = qdec("serve", "--config", config, *more)
        assert done.returncode == 78, done
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"qdec: {config}:5: stream 's': ")
        assert "p <= 1/2" in last
