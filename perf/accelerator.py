"""What it costs a lane to have another process answer, and what it costs when that one hangs.

One endless stream through a real service at the same pace and in the same windows: answered by
matching; by correlated matching in the lane's own thread; by the accelerator, with correlated
matching and with a network; by the accelerator while that is stopped (SIGSTOP). The lane tells how
long its windows were in it: what it waits for the accelerator is what the tier was allowed, and
never more than the deadline less the time that matching takes.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

import psutil
from common import cpu_ns, lane_processes, show
from latency import quantiles

from qdec.client import open_stream, service_status
from qdec.codes import Code
from qdec_tools.circuits import memory
from qdec_tools.qpu import Qpu
from qdec_tools.service import Service, running_service
from qdec_tools.sources import EndlessSource

CASES = {
    "matching": 'tier = "matching"',
    "in the lane": 'tier = "correlated"',
    "accelerated": 'tier = "correlated"\naccelerated = true',
    "network": 'tier = "speed"',
    "network, stopped": 'tier = "speed"',
}


def accelerator(service: Service) -> psutil.Process | None:
    children = psutil.Process(service.pid).children()
    found = [c for c in children if "qdec.accelerator.process" in c.cmdline()]
    return found[0] if found else None


def wait_until_it_serves(service: Service) -> None:
    while "kinds of windows" not in service.log.read_text():
        time.sleep(0.05)


def measure(
    case: str,
    code: Code,
    path: Path,
    windows: str,
    cycle_us: float,
    deadline_us: int,
    seconds: float,
) -> dict[str, object]:
    table = (
        f'[[stream]]\nname = "s"\ncode = "{path}"\nendless = true\n'
        f'windows = "{windows}"\ndeadline_us = {deadline_us}\n{CASES[case]}\n'
    )
    with running_service(transport="tcp", tables=table, settings={"stall_s": 600}) as service:
        if process := accelerator(service):
            wait_until_it_serves(service)
        with open_stream(service.endpoint, "s") as stream:
            pid = lane_processes(service.pid)[0].pid
            if process and case.endswith("stopped"):
                os.kill(process.pid, signal.SIGSTOP)
            before = cpu_ns(pid)
            report = Qpu(stream, EndlessSource(code, 1), lambda _r: None).run(
                cycle_us, seconds, stream.info.commit
            )
            cpu = (cpu_ns(pid) - before) / 1e3 / report.windows
            status = service_status(service.endpoint)
    p50, p99 = quantiles(status["window"])
    there = quantiles(status["accelerator"])
    return {
        "case": case,
        "windows": report.windows,
        **{f"by {tier}": report.tiers.get(tier, 0) for tier in ("matching", "correlated", "speed")},
        "late": report.late,
        "preempted": report.preempted,
        "window p50 us": p50,
        "window p99": p99,
        "accelerator p50 us": there[0],
        "accelerator p99": there[1],
        "lane CPU us/window": cpu,
        "discarded": status["discarded"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distance", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--windows", default="12,5")
    parser.add_argument("--cycle-us", type=float, default=100.0)
    parser.add_argument("--deadline-us", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--save", action="store_true", help="to results/accelerator.json")
    o = parser.parse_args()
    text = str(memory(o.distance, 2 * o.distance + 4, o.noise))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.stim"
        path.write_text(text)
        code = Code.parse("circuit", text)
        rows = [
            measure(case, code, path, o.windows, o.cycle_us, o.deadline_us, o.seconds)
            for case in CASES
        ]
    show(
        "a stream answered by the lane and by the accelerator",
        rows,
        save="accelerator" if o.save else "",
        distance=o.distance,
        noise=o.noise,
        windows=o.windows,
        cycle_us=o.cycle_us,
        deadline_us=o.deadline_us,
        seconds=o.seconds,
        transport="tcp",
    )


if __name__ == "__main__":
    main()
