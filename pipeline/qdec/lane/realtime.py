"""What a lane asks of the operating system and the interpreter, in one place.

`set_up` is called once, when a process gets its lane and before its first socket. Why it asks as it
does:

- **The lane at SCHED_FIFO, libzmq's threads one above.** An I/O thread below a busy lane on the
  same core would never run: messages would neither come in nor go out until the lane idles.
- **At a low priority (20 by default)**: below the kernel's threaded interrupts (50), which bring
  the lane its packets.
- **With SCHED_RESET_ON_FORK**: whatever the lane starts is ordinary again, except libzmq's threads,
  which ask for their own priority.
- **Only while a core is left over.** A FIFO thread that is always busy keeps everything ordinary
  off its core (but for the 5 % that `sched_rt_runtime_us` or the kernel's fair server reserve), so
  ``auto`` takes FIFO only if supervisor, spare and clients have a core without a lane. On a machine
  with one core it never does.
- **Memory locked as it is touched** (MCL_ONFAULT): nothing is swapped out under a deadline, and
  stacks and rings that are reserved but unused cost nothing. All or nothing: under a limit, locked
  regions could no longer grow, so where RLIMIT_MEMLOCK binds nothing is locked.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from qdec.errors import ConfigError
from qdec.findings import Finding, Status, limit_fix, ok

if TYPE_CHECKING:
    from qdec.config import RealTime

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_FIFO = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
# Once set, an unprivileged thread may not take the flag off again.
_ORDINARY = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
# libzmq's threads set their priority themselves, soon after they have started.
_THREADS_PATIENCE_S = 1.0

_libc = ctypes.CDLL(None, use_errno=True)


def set_up(
    context: zmq.Context[Any],
    cpus: Sequence[int | None],
    lane: int,
    mode: RealTime,
    priority: int,
) -> dict[str, Finding]:
    """Have what the operating system gives for real-time work; call it on the lane's thread.

    Args:
        context: the lane's; it has had no socket yet, so that its threads are started here.
        cpus: the core of every lane of the service, None for those that may run anywhere.
        lane: which of them this is.
        mode: ``auto`` takes what there is, ``off`` only pins, ``require`` makes what is missing
            FAIL instead of WARN (see `insist`).
        priority: 1 to 98; libzmq's threads get one more.

    Returns:
        What was had and what was not, by name.
    """
    missing = Status.FAIL if mode == "require" else Status.WARN
    found: dict[str, Finding] = {}
    reach = os.sched_getaffinity(0)  # of everyone else, so before pinning
    cpu = cpus[lane]
    if cpu is not None:
        # First, so that libzmq's threads inherit it: they stay beside the lane's cache.
        found["core"] = _pin(cpu, missing)
    if mode == "off":
        return found
    found["timer slack"] = wake_on_time()
    found["memory"] = _lock_memory(missing)
    crowd = crowded(reach, cpus, lane) if mode == "auto" else ""
    if crowd:
        found["scheduler"] = Finding(
            Status.WARN,
            f"SCHED_OTHER, because {crowd}",
            "leave the service a core that no lane has: fewer [[lane]] tables, or more cores "
            '(realtime = "require" under [service] takes SCHED_FIFO all the same)',
        )
    else:
        found["scheduler"] = _schedule(context, priority, missing)
    return found


def told(found: dict[str, Finding]) -> list[tuple[int, str]]:
    """Lines for the log, with their levels: one for all that was had, one for each that was not."""
    had = [f"{name} {f.value}" for name, f in found.items() if f.status is Status.OK]
    lines = [(logging.INFO, ", ".join(had))] if had else []
    for name, f in found.items():
        if f.status is not Status.OK:
            lines.append((logging.WARNING, f"{name}: {f.value}. To have it: {f.fix}"))
    return lines


def insist(found: dict[str, Finding]) -> None:
    """Refuse to go on without what is required.

    Raises:
        ConfigError: something FAILs; the message has every fix.
    """
    failed = [f"{name}: {f.value}; {f.fix}" for name, f in found.items() if f.status is Status.FAIL]
    if failed:
        raise ConfigError(
            'realtime = "require" under [service], but this lane cannot have it: '
            + ". ".join(failed)
        )


def crowded(reach: Set[int], cpus: Sequence[int | None], lane: int) -> str:
    """Why FIFO lanes would starve somebody, or an empty string.

    Args:
        reach: cores that the service may use; isolated ones are not among them.
        cpus: the core of every lane, None for those that may run anywhere.
        lane: the lane to judge for.
    """
    mine = cpus[lane]
    if mine is not None and cpus.count(mine) > 1:
        return f"another lane has core {mine}, too"
    pinned = {cpu for cpu in cpus if cpu is not None}
    if len(reach - pinned) - cpus.count(None) < 1:
        return f"{len(cpus)} lane(s) on {len(reach)} core(s) leave none for the rest of the service"
    return ""


def _pin(cpu: int, missing: Status) -> Finding:
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        cores = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        return Finding(
            missing,
            f"not pinned to core {cpu}: {error.strerror}",
            f"set cpu of this [[lane]] to a core that exists ({cores})",
        )
    return ok(f"pinned to {cpu}")


def wake_on_time() -> Finding:
    """Have timers of this thread, and of those it starts, end when asked and not 50 µs later."""
    if _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0) == 0:
        return ok("1 ns")
    return Finding(Status.WARN, _errno(), "permit prctl in the seccomp filter of the container")


def _lock_memory(missing: Status) -> Finding:
    limit = _raise_limit(resource.RLIMIT_MEMLOCK, resource.RLIM_INFINITY)
    fix = limit_fix("memlock", "infinity", "unlimited")
    # Under a limit the kernel locks a process that is larger only if it is privileged, so to be
    # larger and succeed means that the limit will not bind later either.
    limited = limit != resource.RLIM_INFINITY
    if limited and limit >= _address_space():
        return Finding(missing, f"not locked: RLIMIT_MEMLOCK is {limit >> 20} MiB", fix)
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        why = f"RLIMIT_MEMLOCK is {limit >> 20} MiB" if limited else _errno()
        return Finding(missing, f"not locked: {why}", fix)
    return ok("locked, as it is touched")


def _address_space() -> int:
    """Bytes that this process has mapped: what mlockall is judged by."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()


def _schedule(context: zmq.Context[Any], priority: int, missing: Status) -> Finding:
    limit = _raise_limit(resource.RLIMIT_RTPRIO, priority + 1)
    try:
        # The I/O threads' priority first: where it is refused, libzmq would abort the process.
        os.sched_setscheduler(0, _FIFO, os.sched_param(priority + 1))
        os.sched_setscheduler(0, _FIFO, os.sched_param(priority))
    except OSError as error:
        be_ordinary()
        return Finding(missing, f"SCHED_OTHER: {error.strerror}", _how_to_permit(priority, limit))
    context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_FIFO)
    context.set(zmq.THREAD_PRIORITY, priority + 1)
    before = _threads()
    context.socket(zmq.PAIR).close(linger=0)  # starts the context's threads
    io_threads = _threads() - before
    give_up = time.monotonic() + _THREADS_PATIENCE_S
    while not (io_threads and all(_fifo_priority(tid) > priority for tid in io_threads)):
        if time.monotonic() > give_up or not io_threads:
            be_ordinary()  # rather than above the threads it needs
            return Finding(
                missing,
                "SCHED_OTHER: libzmq did not raise the priority of its threads",
                "pip install --force-reinstall pyzmq (libzmq 4.3 or newer)",
            )
        time.sleep(0.001)
    return ok(f"SCHED_FIFO {priority}, I/O at {priority + 1}")


def stand_back() -> None:
    """While it gets warm, a process preempts nobody: lanes may be serving beside it."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def step_forward() -> None:
    """`stand_back` is over."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def be_ordinary() -> None:
    """Give SCHED_FIFO back, if we have it: systemd's RestrictRealtime= refuses even the asking."""
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
        os.sched_setscheduler(0, _ORDINARY, os.sched_param(0))


def _how_to_permit(priority: int, limit: int) -> str:
    if _at_least(limit, priority + 1) or os.geteuid() == 0:
        # Neither the limit nor the user: a unit or a container that forbids it, or a kernel that
        # budgets real-time work per control group and gave this one nothing.
        return (
            "RestrictRealtime=no in the unit (realtime.conf of qdec install), CAP_SYS_NICE for a "
            "container (docker run --cap-add SYS_NICE), or boot with rt_group_sched=0 on the "
            "kernel's command line"
        )
    return limit_fix("rtprio", str(priority + 1), str(priority + 1))


def _threads() -> set[int]:
    return {int(tid) for tid in os.listdir("/proc/self/task")}


def _fifo_priority(tid: int) -> int:
    """Its static priority if it is at SCHED_FIFO, else 0."""
    policy = os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK
    return os.sched_getparam(tid).sched_priority if policy == os.SCHED_FIFO else 0


def _raise_limit(which: int, wanted: int) -> int:
    """Raise a soft limit to `wanted`, or as far as this user may. Returns what it is then."""
    soft, hard = resource.getrlimit(which)
    if _at_least(soft, wanted):
        return soft
    # The second raises the hard limit, too, which root may do.
    for limits in ((wanted, hard), (wanted, wanted), (hard, hard)):
        with suppress(ValueError, OSError):
            resource.setrlimit(which, limits)
            return limits[0]
    return soft


def _at_least(limit: int, wanted: int) -> bool:
    unlimited = resource.RLIM_INFINITY  # -1: it does not compare
    return limit == unlimited or (wanted != unlimited and limit >= wanted)


def _errno() -> str:
    return os.strerror(ctypes.get_errno())


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; exit now if it already has."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def settle() -> None:
    """After something was compiled: what lives is not looked at again, and nothing is automatic."""
    gc.collect()
    gc.freeze()
    gc.disable()


def tidy() -> None:
    """Collect what refused messages left in cycles; called when there is nothing else to do."""
    gc.collect(1)
