"""Memory of a lane over an endless stream: flat, or it fails.

Ten minutes by default. Samples the resident set of every process of the service; the slope over the
second half, in bytes per million rounds, with its standard error, decides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading

import psutil
from common import RESULTS, machine, show

from qdec.client import CodeText, open_stream
from qdec.codes import Code
from qdec_tools.circuits import memory
from qdec_tools.qpu import Qpu, Report
from qdec_tools.service import running_service
from qdec_tools.sources import EndlessSource

SAMPLE_S = 2.0
# Growth that an hour at 1 µs per round would turn into 36 MB; below that it is noise.
MAX_SLOPE = 10_000.0


def sample(
    pid: int, rounds: list[int], into: list[tuple[int, int, int]], stop: threading.Event
) -> None:
    """Append (rounds, lane RSS, open files) until told to stop."""
    lanes = psutil.Process(pid).children()
    while not stop.wait(SAMPLE_S):
        rss = max(lane.memory_info().rss for lane in lanes)
        files = sum(lane.num_fds() for lane in lanes)
        into.append((rounds[0], rss, files))


def slope(points: list[tuple[int, int, int]]) -> tuple[float, float]:
    """Bytes per million rounds and its standard error, least squares."""
    x = [r / 1e6 for r, _, _ in points]
    y = [float(b) for _, b, _ in points]
    fit = statistics.linear_regression(x, y)
    mean = statistics.fmean(x)
    spread = sum((a - mean) ** 2 for a in x)
    residual = sum((b - fit.slope * a - fit.intercept) ** 2 for a, b in zip(x, y, strict=True))
    return fit.slope, (residual / max(1, len(x) - 2) / spread) ** 0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--distance", type=int, default=5)
    parser.add_argument("--cycle-us", type=float, default=4.0)
    o = parser.parse_args()
    text = str(memory(o.distance, 12, 0.003))
    code = Code.parse("circuit", text)
    points: list[tuple[int, int, int]] = []
    rounds = [0]
    stop = threading.Event()

    def note(report: Report) -> None:
        rounds[0] = report.committed

    with (
        running_service(transport="tcp") as service,
        open_stream(service.endpoint, "m", code=CodeText("circuit", text), endless=True) as stream,
    ):
        sampler = threading.Thread(target=sample, args=(service.pid, rounds, points, stop))
        sampler.start()
        report = Qpu(stream, EndlessSource(code, 1), note).run(o.cycle_us, o.seconds)
        stop.set()
        sampler.join()
    half = points[len(points) // 2 :]
    grows, error = slope(half)
    row = {
        "d": o.distance,
        "cycle us": o.cycle_us,
        "rounds": report.rounds,
        "first MB": points[0][1] / 1e6,
        "half MB": half[0][1] / 1e6,
        "last MB": half[-1][1] / 1e6,
        "slope B/Mround": grows,
        "+-": error,
        "files grew": half[-1][2] - points[0][2],
        "late": report.late,
        "windows": report.windows,
    }
    show("memory of a lane over an endless stream", [row], noise=0.003, seconds=o.seconds)
    if o.seconds >= 600:
        (RESULTS / "memory.json").write_text(json.dumps({**machine(), **row}, indent=1) + "\n")
    flat = grows < MAX_SLOPE + 2 * error and row["files grew"] <= 0
    if not flat:
        print("memory or file handles grow", file=sys.stderr)
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
