"""What a lane gets of the scheduler: asked for as a lane does, and measured."""

from __future__ import annotations

import resource

from qdec.doctor.check import Check
from qdec.doctor.machine import CAP_SYS_NICE, Answer, Machine
from qdec.findings import Finding, Status, limit_fix, ok, unknown, warn

_LANE_S = 1.5
_LATENCY_S = 2.5
# Of the default deadline of 2 ms: what waking up and being kept waiting may take of it.
_LATE_US = 100.0
_STALL_US = 1000.0
_QUIETER = (
    "let lanes have SCHED_FIFO and a core of their own (see scheduler above and isolation under "
    "cpu), and keep other work off this machine"
)


def lane_answer(machine: Machine) -> Answer:
    """Of the probe that sets itself up as a lane does."""
    service = machine.service
    return machine.probe(
        "lane",
        _LANE_S,
        mode=service.realtime,
        priority=service.realtime_priority,
        cpus=machine.lane_cores,
    )


def judge_had(answer: Answer, name: str, mode: str) -> Finding:
    """One finding of a lane's set-up (see `qdec.lane.realtime.set_up`)."""
    if not answer.facts:
        return unknown(answer.trouble)
    if name not in answer.facts["found"]:
        return ok(f'left alone: realtime = "{mode}" under [service]')
    status, value, fix = answer.facts["found"][name]
    return Finding(Status(status), value, fix)


def had(machine: Machine, name: str) -> Finding:
    """One finding of a lane's set-up here, under this configuration."""
    return judge_had(lane_answer(machine), name, machine.service.realtime)


def judge_priority_limit(soft: int, hard: int, wanted: int, *, privileged: bool) -> Finding:
    """RLIMIT_RTPRIO.

    Args:
        soft: in force; a lane raises it as far as `hard`.
        hard: its bound.
        wanted: what libzmq's threads need.
        privileged: CAP_SYS_NICE, which no limit binds.
    """
    value = f"{soft}, up to {hard}" if hard != soft else f"{soft}"
    if privileged:
        return ok(f"{value}; CAP_SYS_NICE is above it")
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return ok(value)
    fix = limit_fix("rtprio", str(wanted), str(wanted))
    return warn(f"{value}, and {wanted} is needed", fix)


def judge_throttling(runtime_us: str | None, period_us: str | None) -> Finding:
    """What a busy SCHED_FIFO thread must leave to others."""
    if runtime_us is None or period_us is None:
        return unknown("not exposed")
    runtime, period = int(runtime_us), int(period_us)
    if runtime < 0:
        return warn(
            "off: a lane that never idles starves the kernel's own threads on its core",
            "sysctl -w kernel.sched_rt_runtime_us=950000, unless lanes are on isolated cores",
        )
    if runtime == 0:
        return warn(
            "no real-time work is allowed at all", "sysctl -w kernel.sched_rt_runtime_us=950000"
        )
    return ok(f"{1 - runtime / period:.0%} of a core are kept for ordinary work")


def judge_wake_up(answer: Answer) -> Finding:
    """How late sleeps of 100 µs end."""
    if not answer.facts:
        return unknown(answer.trouble)
    policy = "SCHED_FIFO" if answer.facts["fifo"] else "SCHED_OTHER"
    value = "{p50:.0f} / {p99:.0f} / {max:.0f} µs late (p50 / p99 / max)".format(**answer.facts)
    value = f"{value} at {policy}"
    return ok(value) if answer.facts["p99"] <= _LATE_US else warn(value, _QUIETER)


def judge_stall(answer: Answer) -> Finding:
    """How long a thread that wants to run is kept from it."""
    if not answer.facts:
        return unknown(answer.trouble)
    value = f"{answer.facts['stall']:.0f} µs at worst, busy at SCHED_OTHER"
    return ok(value) if answer.facts["stall"] <= _STALL_US else warn(value, _QUIETER)


def _latency(machine: Machine) -> Answer:
    fifo = "SCHED_FIFO" in had(machine, "scheduler").value
    cpu = machine.lane_cores[0]
    return machine.probe("latency", _LATENCY_S, fifo=fifo, cpu=cpu)


def _priority_limit(machine: Machine) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    wanted = machine.service.realtime_priority + 1
    return judge_priority_limit(soft, hard, wanted, privileged=machine.capable(CAP_SYS_NICE))


CHECKS = (
    Check("scheduler", lambda m: had(m, "scheduler")),
    Check("priority limit", _priority_limit),
    Check(
        "throttling",
        lambda m: judge_throttling(
            m.text("/proc/sys/kernel/sched_rt_runtime_us"),
            m.text("/proc/sys/kernel/sched_rt_period_us"),
        ),
    ),
    Check("timer slack", lambda m: had(m, "timer slack")),
    Check("wake-up", lambda m: judge_wake_up(_latency(m))),
    Check("stalls", lambda m: judge_stall(_latency(m))),
)
