"""The unit that we ship, run by the systemd of this machine, where there is one.

It runs under another name, as root without any capability (who else there is on this machine, and
what they may read, is not known), and sees home directories and /tmp, where the tests may lie.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "configs" / "systemd" / "qdec@.service"
BOOTED = Path("/run/systemd/system")
pytestmark = [
    pytest.mark.skipif(not BOOTED.is_dir(), reason="systemd does not run here"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can add a unit"),
]


def call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Unit:
    """A unit that systemd runs."""

    name: str

    def shows(self, *properties: str) -> list[str]:
        found = call("systemctl", "show", self.name, *(f"-p{one}" for one in properties))
        values = dict(line.split("=", 1) for line in found.splitlines())
        return [values[one] for one in properties]

    def until(self, happened: Callable[[], object]) -> None:
        for _ in range(200):
            if happened():
                return
            time.sleep(0.2)
        raise AssertionError(call("systemctl", "status", "--no-pager", "-l", self.name))

    @property
    def journal(self) -> list[dict[str, str]]:
        told = call("journalctl", "--no-pager", "--output=json", f"--unit={self.name}")
        return [json.loads(line) for line in told.splitlines()]


@pytest.fixture
def unit() -> Iterator[Unit]:
    """One lane; the watchdog and the supervisor are less patient than they should be."""
    name = f"qdec-test-{os.getpid()}"
    folder = Path("/run") / name
    folder.mkdir(mode=0o755)
    config = folder / "qdec.toml"
    config.write_text(
        "[service]\nstall_s = 1.5\noverdue_s = 1.5\nspare_lanes = 0\n"
        f'[[lane]]\nendpoints = ["ipc:///run/{name}/x/lane0.ipc"]\n'
    )
    text = UNIT.read_text()
    for ours, here in (
        ("/usr/local/bin/qdec serve", f"{sys.executable} -m qdec serve"),
        ("/etc/qdec/%i.toml", str(config)),
        ("User=qdec\nGroup=qdec\n", ""),
        ("WatchdogSec=45", "WatchdogSec=5"),
        ("PrivateTmp=yes", "PrivateTmp=no"),
        ("ProtectHome=yes", "ProtectHome=no"),
    ):
        assert ours in text
        text = text.replace(ours, here)
    text = text.replace("qdec/%i", f"{name}/%i")
    path = BOOTED / f"{name}@.service"
    path.write_text(text)
    one = Unit(f"{name}@x.service")
    try:
        call("systemctl", "daemon-reload")
        yield one
    finally:
        subprocess.run(["systemctl", "kill", "--signal=SIGKILL", one.name], capture_output=True)
        subprocess.run(["systemctl", "stop", one.name], capture_output=True)
        path.unlink()
        call("systemctl", "daemon-reload")
        for where in ("/run", "/var/lib", "/var/cache"):
            shutil.rmtree(Path(where) / name, ignore_errors=True)


def test_it_is_started_watched_confined_logged_and_stopped(unit: Unit) -> None:
    call("systemctl", "start", unit.name)  # returns when it is ready
    assert unit.shows("ActiveState", "NRestarts") == ["active", "0"]
    unit.until(lambda: unit.shows("StatusText") == ["serving 0 streams on 1 lane"])
    (main,) = unit.shows("MainPID")
    status = Path(f"/proc/{main}/status").read_text()
    for line in ("CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    entries = [one for one in unit.journal if one.get("QDEC_PROCESS") == "supervisor"]
    assert entries[-1]["MESSAGE"].startswith("ready: ipc://")
    assert entries[-1]["_TRANSPORT"] == "journal"
    assert entries[-1]["PRIORITY"] == "6"

    call("systemctl", "reload", unit.name)
    unit.until(lambda: any("configuration reloaded" in one["MESSAGE"] for one in unit.journal))
    assert unit.shows("ActiveState", "NRestarts") == ["active", "0"]

    os.kill(int(main), signal.SIGSTOP)
    unit.until(lambda: unit.shows("ActiveState", "NRestarts") == ["active", "1"])
    assert unit.shows("MainPID") != [main]

    call("systemctl", "stop", unit.name)
    assert unit.shows("ActiveState", "Result") == ["inactive", "success"]
    assert unit.journal[-1]["MESSAGE"]
