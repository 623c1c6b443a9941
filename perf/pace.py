"""A paced endless stream through real sockets: lateness and latency by cycle time.

Service and simulator are separate processes over TCP. For each distance, cycle times are tried from
short to long; the first at which at most 0.1 % of windows are late (beyond what the scheduler did)
and the backlog stays bounded is the one it sustains.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from common import show

from qdec_tools.service import running_service

CYCLES = "1,1.5,2,2.5,3,4,5,7,10,15,20,30"
LATE = 0.001


def run(endpoint: str, d: int, p: float, cycle: float, seconds: float) -> dict[str, Any]:
    options = {"-d": d, "-p": p, "-c": cycle, "-s": seconds, "--endpoint": endpoint}
    command = [sys.executable, "-m", "qdec", "qpu", "--json", "--stream", f"pace-{d}-{cycle}"]
    for name, value in options.items():
        command += [name, str(value)]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    if out.returncode:
        return {"failed": out.stderr.strip().splitlines()[-1:]}
    result: dict[str, Any] = json.loads(out.stdout.strip().splitlines()[-1])
    return result


def sustained(r: dict[str, Any], seconds: float) -> bool:
    if "failed" in r or not r["windows"]:
        return False
    ours = (r["late"] - r["preempted"]) / r["windows"]
    return ours <= LATE and r["seconds"] <= seconds + 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distances", default="3,5,7,9")
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--cycles", default=CYCLES, help="µs per round to try, shortest first")
    parser.add_argument("--seconds", type=float, default=5.0, help="per try")
    parser.add_argument("--confirm", type=float, default=20.0, help="once it is sustained")
    parser.add_argument("--save", action="store_true")
    o = parser.parse_args()
    rows, tries = [], []
    least = 0.0  # what a smaller distance did not sustain, a larger one need not try
    with running_service(transport="tcp") as service:
        for d in sorted(map(int, o.distances.split(","))):
            for cycle in (c for c in map(float, o.cycles.split(",")) if c >= least):
                r = run(service.endpoint, d, o.noise, cycle, o.seconds)
                if r.get("windows"):
                    tries.append(_row(d, cycle, r))
                if not sustained(r, o.seconds):
                    continue
                r = run(service.endpoint, d, o.noise, cycle, o.confirm)
                if sustained(r, o.confirm):
                    rows.append(_row(d, cycle, r))
                    least = cycle
                    break
    show(
        "shortest cycle time sustained",
        rows or tries,
        save="pace" if o.save else "",
        noise=o.noise,
        seconds=o.confirm,
        deadline_us=2000,
        tries=tries,
    )


def _row(d: int, cycle: float, r: dict[str, Any]) -> dict[str, Any]:
    return {
        "d": d,
        "cycle us": cycle,
        "us/round offered": r["seconds"] / r["rounds"] * 1e6,
        "rounds": r["rounds"],
        "windows": r["windows"],
        "simulator held up %": 100 * r["stalled_s"] / r["seconds"],
        "late": r["late"],
        "preempted": r["preempted"],
        "backlog": r["backlog"],
        "lane p50 us": r["lane_us"]["p50"],
        "lane p99 us": r["lane_us"]["p99"],
        "lane p99.9 us": r["lane_us"]["p99_9"],
        "client p50 us": r["client_us"]["p50"],
        "client p99": r["client_us"]["p99"],
        "errors/round": r["error_rate"],
    }


if __name__ == "__main__":
    main()
