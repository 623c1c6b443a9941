"""A service whose accelerator's device fails in mid-stream, in every way that has a status."""

from __future__ import annotations

import re
from pathlib import Path

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
from helpers.failing_accelerator import FAULT_FILE, MODULE
from helpers.services import PATIENT, wait_for_log
from qdec.accelerator.exits import STATUSES
from qdec.client import open_stream, service_status
from qdec.errors import DeviceFault
from qdec_tools.service import running_service

TESTS = Path(__file__).parents[1]


@pytest.fixture
def fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a fault's name there, and the device fails."""
    path = tmp_path / "fault"
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv(FAULT_FILE, str(path))
    return path


def test_faults_in_mid_stream_are_named_and_lanes_go_on(tmp_path: Path, fault: Path) -> None:
    faults = [one for one in DeviceFault if one is not DeviceFault.START]
    with running_service(tables=table(tmp_path, "s", SOON_US), program=MODULE) as service:
        wait_for_log(service, SERVES)
        with open_stream(service.endpoint, "s", patience=PATIENT) as stream:
            client = Client(stream, 40_000, seed=5)
            for restarts, kind in enumerate(faults, start=1):
                client.until(CORRELATED)
                fault.write_text(kind.name)
                client.until(MATCHING)
                wait_for_log(service, f"{kind.value} (exit status {STATUSES[kind]})")
                client.step()
                wait_for_accelerators(service, 1 + restarts)
            client.until(CORRELATED)
            assert stream.resumes == 0
        assert service_status(service.endpoint)["fallbacks"]["down"] > 0
        rows = client.commits
        assert rows["window"].tolist() == list(range(len(rows)))
        log = service.log.read_text()
        for kind in faults:
            assert len(re.findall(rf"ended: {kind.value}", log)) == 1


def test_a_device_that_does_not_start_keeps_no_service_from_starting(
    tmp_path: Path, fault: Path
) -> None:
    fault.write_text(DeviceFault.START.name)
    with running_service(tables=table(tmp_path, "s", SOON_US), program=MODULE) as service:
        status = STATUSES[DeviceFault.START]
        wait_for_log(service, f"{DeviceFault.START.value} (exit status {status})")
        wait_for_log(service, "ready: ")
        with open_stream(service.endpoint, "s", patience=PATIENT) as stream:
            client = Client(stream, 20_000, seed=5)
            assert client.step() in (MATCHING, CORRELATED)
            wait_for_accelerators(service, 1)
            client.until(CORRELATED)
        rows = client.commits
        assert rows["window"].tolist() == list(range(len(rows)))
