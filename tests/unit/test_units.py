"""The units that we ship, judged by systemd's own programs and by its system call filters."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.sandbox import needs_seccomp, settings
from qdec.config import ServiceSection

UNITS = Path(__file__).parents[2] / "configs" / "systemd"
UNIT = UNITS / "qdec@.service"
DROP_INS = ("realtime.conf", "gpu.conf")
ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
SCORE = 3.0


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An instance with every drop-in, of a program that exists."""
    text = UNIT.read_text().replace("/usr/local/bin/qdec", sys.executable)
    unit = tmp_path / "qdec@fridge1.service"
    unit.write_text(text)
    folder = tmp_path / "qdec@fridge1.service.d"
    folder.mkdir()
    for name in DROP_INS:
        shutil.copy(UNITS / name, folder)
    return unit


def analyze(*arguments: object) -> str:
    assert ANALYZE is not None
    done = subprocess.run(
        [ANALYZE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SYSTEMD_PAGER": "", "NO_COLOR": "1"},
    )
    return done.stdout


@needs_analyze
def test_systemd_understands_every_line(installed: Path) -> None:
    complaints = [
        line
        for line in analyze("verify", "--man=no", installed).splitlines()
        if "qdec" in line and "nvidia-modprobe is not executable" not in line
    ]
    assert complaints == []


@needs_analyze
@pytest.mark.parametrize("drop_ins", [(), ("realtime.conf",), DROP_INS], ids=len)
def test_the_exposure_is_low(installed: Path, drop_ins: tuple[str, ...]) -> None:
    for name in set(DROP_INS) - set(drop_ins):
        (installed.parent / f"{installed.name}.d" / name).unlink()
    told = analyze("security", "--offline=true", "--no-pager", installed)
    found = re.search(r"Overall exposure level for qdec@fridge1.service: ([\d.]+)", told)
    assert found, told
    assert float(found[1]) < SCORE


def test_times_that_depend_on_each_other() -> None:
    found = {name: values[-1] for name, values in settings(UNIT).items()}
    service = ServiceSection()
    assert found["StartLimitIntervalSec"] == "0"
    assert found["Type"] == "notify"
    # The supervisor kills what has not drained 5 s after it should have.
    assert float(found["TimeoutStopSec"]) > service.drain_s + 5
    # It replaces a lane that hangs before systemd gives all of them up.
    assert float(found["WatchdogSec"]) / 2 > service.stall_s
    rtprio = settings(UNITS / "realtime.conf")["LimitRTPRIO"]
    assert rtprio == [str(service.realtime_priority + 1)]


NUMBA = "import numba; assert numba.njit(lambda x: x + 1)(3) == 4"
BIND = "import zmq; zmq.Context().socket(zmq.ROUTER).bind('tcp://127.0.0.1:0')"


def confined(unit: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "helpers.sandbox", unit, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )


@needs_seccomp
@pytest.mark.parametrize(
    ("program", "tighter", "words"),
    [
        (NUMBA, ("DenyWriteExecute=no", "DenyWriteExecute=yes"), "executable memory"),
        (BIND, (" AF_NETLINK", ""), "Address family not supported"),
    ],
    ids=["machine code", "interfaces"],
)
def test_what_is_left_open_is_needed(
    tmp_path: Path, program: str, tighter: tuple[str, str], words: str
) -> None:
    done = confined(UNIT, program)
    assert done.returncode == 0, done.stderr
    text = UNIT.read_text()
    assert tighter[0] in text
    unit = tmp_path / "tighter.service"
    unit.write_text(text.replace(*tighter))
    done = confined(unit, program)
    assert done.returncode != 0
    assert words in done.stderr
