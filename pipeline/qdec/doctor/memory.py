"""What could make a lane wait for a page of memory."""

from __future__ import annotations

import re

from qdec.doctor import realtime
from qdec.doctor.check import Check
from qdec.doctor.machine import Machine
from qdec.findings import Finding, Status, ok, unknown, warn

_HUGE = "/sys/kernel/mm/transparent_hugepage/enabled"


def judge_huge_pages(enabled: str | None) -> Finding:
    """Transparent huge pages, the mode in brackets."""
    mode = re.search(r"\[(\w+)\]", enabled or "")
    if mode is None:
        return unknown("not exposed")
    if mode[1] != "always":
        return ok(mode[1])
    return warn(
        "always: the kernel moves a lane's memory about while it decodes",
        f"echo madvise | sudo tee {_HUGE}",
    )


def judge_swap(swaps: str | None, locked: bool) -> Finding:
    """Whether a lane's memory can be on disk when it is needed.

    Args:
        swaps: /proc/swaps.
        locked: a lane's memory stays where it is.
    """
    areas = [line.split()[0] for line in (swaps or "").splitlines()[1:]]
    if not areas:
        return ok("none")
    if locked:
        return ok(f"{', '.join(areas)}; lanes are locked in memory")
    return warn(
        f"{', '.join(areas)}, and lanes are not locked in memory",
        "swapoff -a, or let lanes lock their memory (see above)",
    )


def _swap(machine: Machine) -> Finding:
    locked = realtime.had(machine, "memory").status is Status.OK
    return judge_swap(machine.text("/proc/swaps"), locked)


CHECKS = (
    Check("locking", lambda m: realtime.had(m, "memory")),
    Check("huge pages", lambda m: judge_huge_pages(m.text(_HUGE))),
    Check("swap", _swap),
)
