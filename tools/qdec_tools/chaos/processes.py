"""Which process of a service is which, as /proc has it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def children(parent: int) -> dict[int, str]:
    """Pids of a process's children, and their command lines."""
    found = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, IndexError, ValueError):  # gone meanwhile
            state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                words = (entry / "cmdline").read_bytes().split(b"\0")
                found[int(entry.name)] = b" ".join(words).decode(errors="replace")
    return found


def of_module(parent: int, module: str) -> list[int]:
    """Children that run a module, oldest first."""
    found = [pid for pid, words in children(parent).items() if f" -m {module} " in words]
    return sorted(found, key=_started)


def _started(pid: int) -> int:
    with suppress(OSError, IndexError, ValueError):
        return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    return 0


def cpu_ticks(pid: int) -> int:
    """CPU time that a process has used, in clock ticks; 0 for one that is gone."""
    with suppress(OSError, IndexError, ValueError):
        words = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return int(words[11]) + int(words[12])
    return 0


def rests(pid: int, for_s: float = 0.3) -> bool:
    """Whether a process does next to nothing: it has started, and waits."""
    before = cpu_ticks(pid)
    time.sleep(for_s)
    return before > 0 and cpu_ticks(pid) - before <= 1


def threads(pid: int) -> list[int]:
    """Threads of a process."""
    with suppress(OSError):
        return [int(task.name) for task in (_PROC / str(pid) / "task").iterdir()]
    return []


def memory_bytes(pid: int) -> dict[str, int]:
    """``pss`` and ``uss`` of a process: its share of memory, and what is its own alone."""
    found: dict[str, int] = {}
    with suppress(OSError, IndexError, ValueError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
            name, value = line.split()[:2]
            found[name.rstrip(":")] = int(value) * 1024
        return {"pss": found["Pss"], "uss": found["Private_Clean"] + found["Private_Dirty"]}
    return {}


def open_files(pid: int) -> int:
    """File descriptors that a process has open; 0 for one that is gone."""
    with suppress(OSError):
        return len(os.listdir(_PROC / str(pid) / "fd"))
    return 0
