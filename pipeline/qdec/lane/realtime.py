"""What a lane asks of the operating system and the interpreter, in one place."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; exit now if it already has."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def pin(cpu: int | None) -> None:
    """Stay on one core, if one was given and exists."""
    if cpu is not None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {cpu})


def settle() -> None:
    """After something was compiled: what lives is not looked at again, and nothing is automatic."""
    gc.collect()
    gc.freeze()
    gc.disable()


def tidy() -> None:
    """Collect what refused messages left in cycles; called when there is nothing else to do."""
    gc.collect(1)
