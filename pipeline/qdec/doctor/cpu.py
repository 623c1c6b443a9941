"""Cores, clocks, idle states, the kernel."""

from __future__ import annotations

import gzip
import os
import platform
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from qdec.doctor.check import Check
from qdec.doctor.machine import Machine
from qdec.findings import Finding, ok, unknown, warn

_CPU = "/sys/devices/system/cpu"
_CLOCK = "/sys/devices/system/clocksource/clocksource0"
# Waking from a deeper state than this takes a good part of a window's budget.
_IDLE_EXIT_US = 20
_STOLEN_SHARE = 1e-3
# Clocks that are read without a system call and without a walk to a slow device.
_QUICK_CLOCKS = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")


def parse_cores(text: str) -> set[int]:
    """``0-2,5`` → {0, 1, 2, 5}, as the kernel writes lists."""
    cores: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores


def format_cores(cores: Collection[int]) -> str:
    """The other way round."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def judge_cores(usable: Collection[int], online: int) -> Finding:
    """Cores that this process may run on."""
    value = f"{len(usable)} of {online} ({format_cores(usable)})"
    if len(usable) < 2:
        return warn(
            value,
            "give the service two cores or more: on one, a lane and all else take turns, and "
            "SCHED_FIFO is not taken (CPUAffinity= in the unit, --cpuset-cpus of a container)",
        )
    return ok(value)


def judge_quota(cpu_max: str | None) -> Finding:
    """A control group's CPU budget, as ``cpu.max`` has it: quota and period in µs."""
    quota, period = (cpu_max or "max 100000").split()[:2]
    if quota == "max":
        return ok("none")
    return warn(
        f"{int(quota) / 1000:g} ms of CPU time in {int(period) / 1000:g} ms, then all stops",
        "CPUQuota= (empty) in the [Service] section of the unit; docker run without --cpus",
    )


def judge_isolation(isolated: str | None, nohz_full: str | None, online: int) -> Finding:
    """Cores that the scheduler leaves alone."""
    cores, quiet = (
        parse_cores(text or "") if text != "(null)" else set() for text in (isolated, nohz_full)
    )
    if cores:
        also = f", tick off on {format_cores(quiet)}" if quiet else ""
        return ok(f"{format_cores(cores)}{also}")
    if online < 4:
        return ok(f"none; {online} core(s) are too few to set some aside")
    lanes = f"{online - 2}-{online - 1}"
    return warn(
        "none: lanes share their cores with whatever else runs",
        f"isolcpus=managed_irq,domain,{lanes} nohz_full={lanes} rcu_nocbs={lanes} on the kernel's "
        f"command line, and cpu = {online - 1} under [[lane]]",
    )


def judge_governor(governors: Collection[str]) -> Finding:
    """Frequency governors of all cores."""
    kinds = ", ".join(sorted(set(governors)))
    if not governors:
        return unknown("not exposed: the firmware or the hypervisor sets the clock")
    if set(governors) == {"performance"}:
        return ok(kinds)
    return warn(
        f"{kinds}: the clock drops when a lane waits", "cpupower frequency-set -g performance"
    )


def judge_smt(active: str | None) -> Finding:
    """Whether two hardware threads share a core."""
    if active is None:
        return unknown("not exposed")
    if active == "0":
        return ok("off")
    return warn(
        "on: a neighbour on the same core slows a lane down",
        f"echo off | sudo tee {_CPU}/smt/control, or pin lanes to cores whose siblings are idle",
    )


@dataclass(frozen=True, slots=True)
class IdleState:
    """One way for a core to sleep, as cpuidle tells it."""

    name: str
    exit_us: int
    enabled: bool


def judge_idle(states: Collection[IdleState]) -> Finding:
    """How deep cores sleep."""
    if not states:
        return unknown("not exposed")
    enabled = [state for state in states if state.enabled]
    if not enabled:
        return ok("all off")
    deepest = max(enabled, key=lambda state: state.exit_us)
    value = f"deepest {deepest.name}, {deepest.exit_us} µs to wake"
    if deepest.exit_us <= _IDLE_EXIT_US:
        return ok(value)
    return warn(
        value,
        f"cpupower idle-set -D {_IDLE_EXIT_US}, or a daemon that keeps /dev/cpu_dma_latency open "
        f"with {_IDLE_EXIT_US} written to it (tuned-adm profile latency-performance)",
    )


def judge_virtual(hypervisor: bool, stat: str) -> Finding:
    """Time that a hypervisor took since boot.

    Args:
        hypervisor: whether there is one.
        stat: the first line of /proc/stat.
    """
    ticks = [int(part) for part in stat.split()[1:9]]
    stolen = ticks[7] / max(1, sum(ticks)) if len(ticks) > 7 else 0.0
    if not hypervisor and not stolen:
        return ok("none: this is the machine itself")
    value = f"virtual machine, {stolen:.3%} of the time since boot stolen"
    if stolen < _STOLEN_SHARE:
        return ok(value)
    return warn(value, "run on bare metal, or have the host pin this machine's cores (vcpupin)")


def judge_clock(current: str | None, available: str | None) -> Finding:
    """What the time is read from."""
    if current is None:
        return unknown("not exposed")
    if current in _QUICK_CLOCKS:
        return ok(current)
    if "tsc" in (available or "").split():
        fix = f"echo tsc | sudo tee {_CLOCK}/current_clocksource"
    else:
        fix = "tsc=reliable on the kernel's command line, if dmesg does not call the TSC unstable"
    return warn(f"{current}: every look at the time costs a microsecond or more", fix)


def preemption_model(
    version: str, realtime: str | None, debugfs: str | None, cmdline: str, build: str | None
) -> str | None:
    """The kernel's preemption model, or None where it cannot be told.

    Args:
        version: of ``uname -v``.
        realtime: /sys/kernel/realtime.
        debugfs: /sys/kernel/debug/sched/preempt, the current one in parentheses.
        cmdline: /proc/cmdline.
        build: the kernel's build configuration.
    """
    if realtime == "1" or "PREEMPT_RT" in version:
        return "rt"
    if debugfs and (current := re.search(r"\((\w+)\)", debugfs)):
        return current[1]
    if asked := re.search(r"(?:^|\s)preempt=(\w+)", cmdline):
        return asked[1]
    for option, model in (
        ("", "full"),
        ("_LAZY", "lazy"),
        ("_VOLUNTARY", "voluntary"),
        ("_NONE", "none"),
    ):
        if build and re.search(rf"^CONFIG_PREEMPT{option}=y$", build, re.MULTILINE):
            return model
    if "PREEMPT_DYNAMIC" in version:
        return None  # one of them, chosen at its build
    return "full" if "PREEMPT" in version else None


def judge_preemption(model: str | None, switchable: bool) -> Finding:
    """Whether the kernel lets a lane in while it works for somebody else.

    Args:
        model: see `preemption_model`.
        switchable: the kernel takes ``preempt=`` on its command line.
    """
    if model is None:
        return unknown("the kernel does not say")
    if model in ("rt", "full", "lazy"):
        return ok(model)
    how = "preempt=full on the kernel's command line"
    return warn(
        f"{model}: a system call of another process can hold a lane up",
        how if switchable else "a kernel built with PREEMPT_DYNAMIC or PREEMPT_RT",
    )


def _quota(machine: Machine) -> Finding:
    group = (machine.text("/proc/self/cgroup") or "").rpartition("0::")[2].strip("/ \n")
    inner = machine.text(f"/sys/fs/cgroup/{group}/cpu.max")
    return judge_quota(inner or machine.text("/sys/fs/cgroup/cpu.max"))


def _idle_states(machine: Machine) -> list[IdleState]:
    names = machine.texts(f"{_CPU}/cpu0/cpuidle/state*/name")
    states = []
    for path, name in names.items():
        folder = path.removesuffix("/name")
        exit_us = int(machine.text(f"{folder}/latency") or 0)
        states.append(IdleState(name, exit_us, machine.text(f"{folder}/disable") != "1"))
    return states


def _build_configuration(machine: Machine) -> str | None:
    plain = machine.text(f"/boot/config-{platform.release()}")
    if plain is not None:
        return plain
    try:
        return gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except OSError:
        return None


def _preemption(machine: Machine) -> Finding:
    version = platform.version()
    model = preemption_model(
        version,
        machine.text("/sys/kernel/realtime"),
        machine.text("/sys/kernel/debug/sched/preempt"),
        machine.text("/proc/cmdline") or "",
        _build_configuration(machine),
    )
    return judge_preemption(model, "PREEMPT_DYNAMIC" in version)


def _online(machine: Machine) -> int:
    return len(parse_cores(machine.text(f"{_CPU}/online") or "")) or os.cpu_count() or 1


CHECKS = (
    Check("cores", lambda m: judge_cores(os.sched_getaffinity(0), _online(m))),
    Check("quota", _quota),
    Check(
        "isolation",
        lambda m: judge_isolation(
            m.text(f"{_CPU}/isolated"), m.text(f"{_CPU}/nohz_full"), _online(m)
        ),
    ),
    Check(
        "governor",
        lambda m: judge_governor(m.texts(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor").values()),
    ),
    Check("smt", lambda m: judge_smt(m.text(f"{_CPU}/smt/active"))),
    Check("idle states", lambda m: judge_idle(_idle_states(m))),
    Check(
        "virtualisation",
        lambda m: judge_virtual(
            "hypervisor" in (m.text("/proc/cpuinfo") or ""),
            (m.text("/proc/stat") or "").partition("\n")[0],
        ),
    ),
    Check(
        "clock",
        lambda m: judge_clock(
            m.text(f"{_CLOCK}/current_clocksource"), m.text(f"{_CLOCK}/available_clocksource")
        ),
    ),
    Check("preemption", _preemption),
)
