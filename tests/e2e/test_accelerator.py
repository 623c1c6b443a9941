"""A service with an accelerator process that is stopped, killed and reconfigured in mid-stream."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from helpers.accelerated import (
    CORRELATED,
    MATCHING,
    SERVES,
    SOON_US,
    Client,
    table,
    wait_for_accelerators,
)
from helpers.accelerators import as_replayed
from helpers.replays import qdec
from helpers.services import (
    CODE,
    GEOMETRY,
    PATIENT,
    lane_pids,
    wait_for_log,
)
from qdec.client import open_stream, service_status
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import Service, running_service


def accelerator_pid(service: Service) -> int:
    for child in psutil.Process(service.pid).children():
        with suppress(psutil.Error):
            if "qdec.accelerator.process" in child.cmdline():
                return child.pid
    raise AssertionError("there is no accelerator")


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
            wait_for_log(service, "accelerator 0 has a new configuration: draining it")
            other.step()
            assert bystander.resumes == 1, "its lane got a successor that knew the other stream"


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
