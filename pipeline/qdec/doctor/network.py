"""Loopback, buffers, descriptors."""

from __future__ import annotations

import resource

from qdec.doctor.check import Check
from qdec.doctor.machine import Answer, Machine
from qdec.findings import Finding, fail, limit_fix, ok, unknown, warn

_LOOPBACK_S = 1.5
_SLOW_US = 1000.0
# What TCP's windows may grow to; libzmq leaves their size to the kernel.
_BUFFER_BYTES = 4 << 20
# Beside one descriptor per client: sockets, pipes, libraries, logs.
_OWN_FILES = 64
_FEWEST_FILES = 128


def judge_loopback(answer: Answer) -> Finding:
    """Round trips of a small message between two ZeroMQ contexts."""
    if not answer.facts:
        if "ended with status" in answer.trouble:
            return fail(f"no answer over 127.0.0.1: {answer.trouble}", "ip link set lo up")
        return unknown(answer.trouble)
    value = "{p50:.0f} / {p99:.0f} µs there and back (p50 / p99)".format(**answer.facts)
    if answer.facts["p99"] <= _SLOW_US:
        return ok(value)
    return warn(value, "keep other work off these cores, or give the service more of them")


def judge_buffers(receive: str | None, send: str | None) -> Finding:
    """TCP's buffers: ``smallest default largest`` in bytes, each way."""
    if receive is None or send is None:
        return unknown("not exposed")
    largest = {"tcp_rmem": int(receive.split()[2]), "tcp_wmem": int(send.split()[2])}
    value = ", ".join(f"{name} up to {size / (1 << 20):.3g} MiB" for name, size in largest.items())
    small = [name for name, size in largest.items() if size < _BUFFER_BYTES]
    if not small:
        return ok(value)
    return warn(
        value,
        "; ".join(f'sysctl -w net.ipv4.{name}="4096 131072 {_BUFFER_BYTES}"' for name in small),
    )


def judge_files(soft: int, streams: int) -> Finding:
    """Descriptors per process.

    Args:
        soft: the limit in force.
        streams: that one lane may have open, each perhaps on a connection of its own.
    """
    wanted = streams + _OWN_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ok(f"{soft} per process")
    fix = limit_fix("nofile", str(wanted), str(wanted))
    value = f"{soft} per process, and {streams} streams (max_streams) may need {wanted}"
    return warn(value, fix) if soft >= _FEWEST_FILES else fail(value, fix)


def _files(machine: Machine) -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return judge_files(soft, machine.service.max_streams)


CHECKS = (
    Check("loopback", lambda m: judge_loopback(m.probe("loopback", _LOOPBACK_S))),
    Check(
        "buffers",
        lambda m: judge_buffers(
            m.text("/proc/sys/net/ipv4/tcp_rmem"), m.text("/proc/sys/net/ipv4/tcp_wmem")
        ),
    ),
    Check("descriptors", _files),
)
