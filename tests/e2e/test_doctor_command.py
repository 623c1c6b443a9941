"""`qdec doctor` as a person, and as a script, runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.services import answers_in, open_guest, rounds_of_a_shot, stream_all, undisturbed
from qdec.client import service_status
from qdec.doctor.checks import GROUPS
from qdec.doctor.machine import Machine
from qdec_tools.service import running_service


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qdec", "doctor", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def checks(*arguments: str, **environment: str) -> dict[tuple[str, str], dict[str, str]]:
    """Findings by group and name, of a run whose exit status agrees with them."""
    done = doctor("--json", *arguments, **environment)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    rows = said["checks"]
    assert done.returncode == (0 if said["ok"] else 1), done.stderr
    assert said["failures"] == sum(row["status"] == "fail" for row in rows)
    assert said["warnings"] == sum(row["status"] == "warn" for row in rows)
    assert said["ok"] == (said["failures"] == 0)
    for row in rows:
        assert set(row) == {"group", "name", "status", "value", "fix"}
        assert bool(row["fix"]) == (row["status"] in ("warn", "fail")), row
    return {(row["group"], row["name"]): row for row in rows}


def test_this_machine(tmp_path: Path) -> None:
    found = checks(STATE_DIRECTORY=str(tmp_path))
    expected = [(g.name, c.name) for g in GROUPS for c in g.checks if c.applies(Machine())]
    assert list(found) == expected
    for name in ("qdec", "numpy", "pymatching", "stim", "pyzmq", "libzmq"):
        assert found["software", name]["status"] in ("ok", "unknown")  # a busy machine
    # The tests run on it, so it can run.
    assert not [row for row in found.values() if row["status"] == "fail"]
    assert found["service", "state directory"]["value"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == [], "looking changes nothing"


def test_for_a_person(tmp_path: Path) -> None:
    done = doctor(STATE_DIRECTORY=str(tmp_path), COLUMNS="60")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    for group in GROUPS:
        assert group.name in lines
    assert "0 failure(s): the service can run here" in lines[-1]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "qdec.toml"


def written(config: Path, lane: str, service: str = "") -> Path:
    state = config.parent / "state"
    config.write_text(f'[service]\nstate_dir = "{state}"\n{service}\n[[lane]]\n{lane}\n')
    return config


def test_a_configuration_that_cannot_be_served(config: Path) -> None:
    state = config.parent / "state"
    state.mkdir()
    (state / "cursor.key").write_bytes(bytes(32))
    (state / "cursor.key").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        lane = f'endpoints = ["tcp://127.0.0.1:{port}"]\ncpu = 8191'
        found = checks("--config", str(written(config, lane, 'realtime = "off"\nplain_tcp = true')))
    assert found["service", "config"]["status"] == "ok"
    for name, word in (
        ("endpoints", "ss -ltnxp"),
        ("lane cores", "cpu under [[lane]]"),
        ("cursor key", "chmod 600"),
    ):
        assert found["service", name]["status"] == "fail"
        assert word in found["service", name]["fix"]
    assert "left alone" in found["realtime", "scheduler"]["value"]


def test_a_configuration_that_is_none(config: Path) -> None:
    found = checks("--config", str(written(config, "endpoints = []")))
    assert found["service", "config"]["status"] == "fail"
    assert f"{config}:5: " in found["service", "config"]["value"]
    assert found["service", "endpoints"]["status"] == "unknown"
    missing = checks("--config", str(config.parent / "none.toml"))
    assert "No such file" in missing["service", "config"]["value"]


def test_beside_a_running_service() -> None:
    records = rounds_of_a_shot(1000, seed=21)
    with running_service(lanes=2) as service, open_guest(service) as stream:
        said: list[dict[tuple[str, str], dict[str, str]]] = []

        def examine() -> None:
            said.append(checks("--config", str(service.config)))

        commits = stream_all(stream, records, {500: examine})
        assert answers_in(commits) == undisturbed(records)
        assert stream.resumes == 0
        assert service_status(service.endpoint)["rounds"] == len(records)
    assert said[0]["service", "endpoints"]["value"] == "2 in use by a running qdec"
    assert said[0]["service", "cursor key"]["value"].endswith("mode 0600")


def test_help_teaches() -> None:
    done = doctor("--help", COLUMNS="120")
    for word in (
        "ok",
        "warn",
        "fail",
        "unknown",
        "--json",
        "--config",
        "Exit status",
        "systemd-run",
    ):
        assert word in done.stdout
