"""Looks that need a process of their own, which `qdec doctor` starts, bounds in time and ends.

They may crash, hang, or change what their process is allowed to do, and they keep out of a running
service's way: what is busy is at SCHED_OTHER, what is at SCHED_FIFO is asleep nearly all the time.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdec.config import RealTime

PACKAGES = {"numpy": "numpy", "pymatching": "pymatching", "stim": "stim", "pyzmq": "zmq"}

_SLEEP_S = 100e-6
_SLEEPING_S = 1.0
_SPINNING_S = 0.3
_ECHOING_S = 0.3
_ECHO_PATIENCE_MS = 1000
_ECHO_BYTES = 256
# Below every lane (`realtime_priority` defaults to 20), so it delays none.
_LOWEST_FIFO = 1


def imports() -> dict[str, Any]:
    """Version of each package as it loads, or why it does not."""
    found: dict[str, Any] = {}
    for package, module in PACKAGES.items():
        try:
            loaded = importlib.import_module(module)
            found[package] = {"version": str(loaded.__version__)}
            if package == "pyzmq":
                found["libzmq"] = {"version": loaded.zmq_version()}
        except Exception as error:  # whatever a broken installation raises
            found[package] = {"error": f"{type(error).__name__}: {error}"}
    return found


def lane(mode: RealTime, priority: int, cpus: list[int | None]) -> dict[str, Any]:
    """Set up as lane 0 would be: what it has then, and which lanes' cores cannot be had."""
    import zmq

    from qdec.lane import realtime

    everywhere = os.sched_getaffinity(0)
    refused = [cpu for cpu in cpus if cpu is not None and not _may_run_on(cpu)]
    os.sched_setaffinity(0, everywhere)
    found = realtime.set_up(zmq.Context(), cpus, 0, mode, priority)
    realtime.be_ordinary()
    found_json = {name: [f.status, f.value, f.fix] for name, f in found.items()}
    return {"found": found_json, "refused": refused}


def _may_run_on(cpu: int) -> bool:
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError:
        return False
    return True


def latency(fifo: bool, cpu: int | None) -> dict[str, Any]:
    """How late short sleeps end, and how long a busy thread is kept from running, in µs.

    Args:
        fifo: sleep at SCHED_FIFO, as a lane does here.
        cpu: the lane's core, if it has one.
    """
    from qdec.lane import realtime

    if cpu is not None:
        with suppress(OSError):
            os.sched_setaffinity(0, {cpu})
    realtime.wake_on_time()
    if fifo:
        with suppress(OSError):
            hard = resource.getrlimit(resource.RLIMIT_RTPRIO)[1]
            resource.setrlimit(resource.RLIMIT_RTPRIO, (hard, hard))
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_LOWEST_FIFO))
    at_fifo = os.sched_getscheduler(0) == os.SCHED_FIFO
    late = _sleep_overshoots()
    realtime.be_ordinary()
    return {"fifo": at_fifo, **_quantiles(late), "stall": _longest_stall() / 1e3}


def _sleep_overshoots() -> list[int]:
    clock, asked = time.perf_counter_ns, round(_SLEEP_S * 1e9)
    late = []
    end = clock() + round(_SLEEPING_S * 1e9)
    while (start := clock()) < end:
        time.sleep(_SLEEP_S)
        late.append(clock() - start - asked)
    return late


def _longest_stall() -> int:
    clock, longest = time.perf_counter_ns, 0
    last = clock()
    end = last + round(_SPINNING_S * 1e9)
    while last < end:
        now = clock()
        if now - last > longest:
            longest = now - last
        last = now
    return longest


def loopback() -> dict[str, Any]:
    """Round trips of a small message over loopback TCP between two ZeroMQ contexts, in µs."""
    import zmq

    with zmq.Context() as here, zmq.Context() as there:
        client, server = here.socket(zmq.DEALER), there.socket(zmq.ROUTER)
        with client, server:
            for sock in (client, server):
                sock.setsockopt(zmq.LINGER, 0)
                sock.setsockopt(zmq.RCVTIMEO, _ECHO_PATIENCE_MS)
            port = server.bind_to_random_port("tcp://127.0.0.1")
            client.connect(f"tcp://127.0.0.1:{port}")
            took, end = [], time.perf_counter() + _ECHOING_S
            message = bytes(_ECHO_BYTES)
            while time.perf_counter() < end:
                start = time.perf_counter_ns()
                client.send(message)
                server.send_multipart(server.recv_multipart())
                client.recv()
                took.append(time.perf_counter_ns() - start)
    return _quantiles(took[1:] or took)  # the first one connects


def gpu() -> dict[str, Any]:
    """GPUs as the driver has them, and versions of what uses them; nothing of it is loaded."""
    from qdec.errors import EngineError
    from qdec.neural import driver

    packages = {name: _installed(those) for name, those in GPU_PACKAGES.items()}
    try:
        devices = driver.devices()
    except EngineError as error:
        return {"trouble": str(error), "packages": packages}
    modes = driver.modes([one.bus for one in devices])
    rows = [
        {"name": one.name, "capability": one.capability, "memory": one.memory, "bus": one.bus, **m}
        for one, m in zip(devices, modes, strict=True)
    ]
    return {"devices": rows, "packages": packages}


def _installed(distributions: Iterable[str]) -> str | None:
    """Version of the first that is there, with its name where that says more."""
    for name in distributions:
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{importlib.metadata.version(name)} ({name})"
    return None


def _quantiles(ns: Iterable[int]) -> dict[str, float]:
    ordered = sorted(ns)
    last = len(ordered) - 1
    return {
        name: ordered[round(q * last)] / 1e3
        for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


# What may bring a package, by name in the answer.
GPU_PACKAGES = {
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12", "tensorrt", "tensorrt-rtx-cu13-bindings"),
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
    "pycuda": ("pycuda",),
    "torch": ("torch",),
}
PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "gpu": gpu,
    "imports": imports,
    "lane": lane,
    "latency": latency,
    "loopback": loopback,
}


def main(argv: list[str]) -> None:
    """Run one probe and print what it found as JSON: ``PARENT_PID NAME ARGUMENTS``."""
    parent, name, arguments = argv
    if name != "imports":  # which must report what does not load, not need it
        from qdec.lane.realtime import die_with_parent

        die_with_parent(int(parent))
    print(json.dumps(PROBES[name](**json.loads(arguments))))


if __name__ == "__main__":
    main(sys.argv[1:])
