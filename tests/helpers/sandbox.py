"""The system calls that a systemd unit permits, put upon a process without systemd.

``python -m helpers.sandbox UNIT program argument …`` runs a program under the unit's
``SystemCallFilter=``, ``RestrictAddressFamilies=``, ``RestrictRealtime=`` and
``MemoryDenyWriteExecute=``, as systemd.exec(5) describes them. The lists of calls are systemd's.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import mmap
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

_ALLOW, _EPERM, _EAFNOSUPPORT = (
    0x7FFF0000,
    0x00050000 | errno.EPERM,
    0x00050000 | errno.EAFNOSUPPORT,
)
_EQ, _GT, _MASKED_EQ = 4, 6, 7
_NAME = ctypes.util.find_library("seccomp")

needs_seccomp = pytest.mark.skipif(
    _NAME is None or shutil.which("systemd-analyze") is None,
    reason="libseccomp2 and systemd are needed to apply a unit's filters",
)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class _Filter:
    """One filter of libseccomp."""

    def __init__(self, default: int) -> None:
        assert _NAME is not None
        self._lib = ctypes.CDLL(_NAME)
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._lib.seccomp_init(default))

    def rule(self, action: int, call: str, *comparisons: tuple[int, int, int, int]) -> None:
        number = self._lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:  # not one of this architecture's
            return
        array = (_Comparison * len(comparisons))(*comparisons)
        done = self._lib.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        assert done in (0, -errno.EACCES), (call, done)  # the latter: it is the default

    def load(self) -> None:
        assert self._lib.seccomp_load(self._context) == 0


def settings(unit: Path) -> dict[str, list[str]]:
    """Values of the unit's settings, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def _calls(groups: str) -> set[str]:
    """System calls of groups, those of groups in them included."""
    found: set[str] = set()
    for name in groups.split():
        if not name.startswith("@"):
            found.add(name)
            continue
        told = subprocess.run(
            ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
        ).stdout
        lines = (line.strip() for line in told.splitlines()[1:])
        found |= _calls(" ".join(line for line in lines if line and not line.startswith("#")))
    return found


def permitted(unit: Path) -> set[str]:
    """The system calls that the unit's filter lets through."""
    calls: set[str] = set()
    for value in settings(unit)["SystemCallFilter"]:
        if value.startswith("~"):
            calls -= _calls(value[1:])
        else:
            calls |= _calls(value)
    return calls | _calls("@default")


def confine(unit: Path) -> None:
    """Have this process, and what it executes, be held to what the unit permits."""
    found = settings(unit)
    calls = permitted(unit)
    special = _Filter(_ALLOW)
    if found["RestrictRealtime"][-1] == "yes":
        for policy in (os.SCHED_FIFO, os.SCHED_RR):
            special.rule(_EPERM, "sched_setscheduler", (1, _EQ, policy, 0))
        # Flags such as SCHED_RESET_ON_FORK are no policies, and systemd refuses them, too.
        special.rule(_EPERM, "sched_setscheduler", (1, _GT, os.SCHED_IDLE, 0))
    if found["MemoryDenyWriteExecute"][-1] == "yes":
        both = mmap.PROT_WRITE | mmap.PROT_EXEC
        special.rule(_EPERM, "mmap", (2, _MASKED_EQ, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            special.rule(_EPERM, call, (2, _MASKED_EQ, mmap.PROT_EXEC, mmap.PROT_EXEC))
    families = {
        getattr(socket, name).value for name in found["RestrictAddressFamilies"][-1].split()
    }
    for family in set(range(64)) - families:
        special.rule(_EAFNOSUPPORT, "socket", (0, _EQ, family, 0))
    allowed = _Filter(_EPERM)
    for call in calls:
        allowed.rule(_ALLOW, call)
    # The list comes last: loading a filter is not on it.
    special.rule(_EPERM, "reboot")
    special.load()
    allowed.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
