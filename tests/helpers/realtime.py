"""What is in force for a process's threads, read from the kernel rather than from the code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRIORITY = 20
LIBZMQ = "ZMQbg"


def policies(pid: int) -> dict[str, tuple[int, int]]:
    """Policy and static priority of every thread, by the thread's name and id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        # Fields 40 and 41 of proc_pid_stat(5), counted behind the name in parentheses.
        rest = (task / "stat").read_text().rpartition(")")[2].split()
        name = (task / "comm").read_text().strip()
        found[f"{name} {task.name}"] = (int(rest[38]), int(rest[37]))
    return found


def locked_kb(pid: int) -> int:
    """Memory that cannot be swapped out."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck"))


def _permitted(code: str) -> bool:
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode == 0


needs_fifo = pytest.mark.skipif(
    not _permitted(
        f"import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param({PRIORITY + 1}))"
    ),
    reason="SCHED_FIFO is not permitted here",
)
needs_rtprio_limit = pytest.mark.skipif(
    not _permitted(
        f"import resource as r; r.setrlimit(r.RLIMIT_RTPRIO, ({PRIORITY + 1}, {PRIORITY + 1}))"
    ),
    reason="RLIMIT_RTPRIO cannot be raised here",
)
needs_two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="on one core a lane is left at SCHED_OTHER"
)
