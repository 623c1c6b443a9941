"""What the accelerator's scheduler costs: median µs per call, by what waits and by its streams.

The goal is at most 10 µs for each call at the queue lengths that lanes give it (each has 64 slots).
A window at batch 1 needs one of each: `add`, `decide`, `completed`. How well it schedules is tested
in virtual time (tests/unit/test_scheduler.py) and needs no clock.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Any

from common import show

from qdec.accelerator.latency import Buckets, LatencyModel
from qdec.accelerator.scheduler import Scheduler
from qdec.accelerator.work import Start, StreamTerms, Work

FIXED_NS, EACH_NS = 100_000, 5_000
FAR = 1 << 60


def scheduler(streams: int, buckets: Buckets, kinds: int = 1) -> Scheduler:
    took = {size: FIXED_NS + EACH_NS * size for size in buckets.sizes}
    return Scheduler(
        [StreamTerms(buckets)] * streams, {k: LatencyModel(took) for k in range(kinds)}
    )


def cost(queue: int, streams: int, kinds: int, repeats: int) -> dict[str, Any]:
    """µs of each step while about `queue` windows wait."""
    buckets = Buckets.doubling(16)
    rng = random.Random(1)
    one = scheduler(streams, buckets, kinds)
    number = now = 0
    spent: dict[str, list[int]] = {"add": [], "decide": [], "completed": []}
    out: list[int] = []

    def timed(step: str, function: Any, *args: Any) -> Any:
        started = time.perf_counter_ns()
        result = function(*args)
        spent[step].append(time.perf_counter_ns() - started)
        return result

    while len(spent["decide"]) < repeats:
        while one.waiting < queue:
            number += 1
            work = Work(number, number % kinds, 1, now + FAR + rng.randrange(1 << 20), number % 8)
            timed("add", one.add, work, now)
        now += 1000
        out += [d.batch.number for d in timed("decide", one.decide, now) if isinstance(d, Start)]
        if out:
            now += FIXED_NS
            timed("completed", one.completed, out.pop(rng.randrange(len(out))), now)
    return {
        "queue": queue,
        "streams": streams,
        "kinds": kinds,
        **{f"{step} us": statistics.median(took) / 1e3 for step, took in spent.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3000)
    parser.add_argument("--save", action="store_true", help="to results/scheduler.json")
    o = parser.parse_args()
    shapes = [(1, 1, 1), (16, 1, 1), (64, 1, 1), (64, 4, 1), (64, 4, 4), (256, 4, 4), (1024, 8, 4)]
    rows = [cost(*shape, o.repeats) for shape in shapes]
    show(
        "what a decision of the accelerator's scheduler costs",
        rows,
        save="scheduler" if o.save else "",
        repeats=o.repeats,
    )


if __name__ == "__main__":
    main()
