"""Training samples per second: each label set on one core, and through a feed with real workers.

The question is whether 16 cores keep up with a GPU that eats 50,000 windows of distance 9 per
second. CPU time counts, so other work on the machine matters little; through the feed, CPU time of
the workers and of the reader, and wall time beside it. What 16 cores would make is reckoned from
the workers' time alone (fed us); that cores share their memory's bandwidth is not in it. Writes
perf/results/data.json with --save.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import psutil
from common import cpu_ns, show
from rich.progress import track

from qdec.neural.folded import Architecture
from qdec.neural.grid import ROTATED
from qdec_tools.noise import named_noise
from qdec_tools.training.feed import Blocks, Feed, block_rng
from qdec_tools.training.folded_data import make_kind
from qdec_tools.training.ising_data import IsingSampler, Kind

LABELS = ("edges", "ising")
WANTED = 50_000
CORES = 16


class Windows:
    """Whole shots of d rounds with one of the label sets, as blocks."""

    def __init__(self, labels: str, distance: int, noise: str, p: float, shots: int) -> None:
        """Lay one kind of window out."""
        model = named_noise(noise, p)
        self._shots = shots
        self._arrays: tuple[np.ndarray, np.ndarray] | None = None
        if labels == "edges":
            arch = Architecture(ROTATED, 8, 8, 1)
            # As many rounds of detectors as Ising's T, the readout's included.
            self._edges = make_kind(arch, distance, "z", "whole", distance, model).sampler
        else:
            self._ising = IsingSampler(Kind(distance, distance, model))
            shape = shots, *self._ising.shape
            self._arrays = np.empty(shape, np.float32), np.empty(shape, np.uint8)

    def block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels."""
        rng = block_rng(1, number)
        if self._arrays is None:
            return self._edges.sample(self._shots, rng)
        self._ising.fill(*self._arrays, rng)
        return self._arrays


def alone(make: partial[Windows], shots: int, repeats: int) -> tuple[float, int]:
    """CPU time per window, s, the median of repeats; and bytes of a block."""
    blocks: Blocks = make()
    size = sum(array.nbytes for array in blocks.block(0))
    times = []
    for number in range(1, repeats + 1):
        began = time.process_time()
        blocks.block(number)
        times.append((time.process_time() - began) / shots)
    return float(np.median(times)), size


def fed(
    make: partial[Windows], size: int, shots: int, blocks: int, workers: int
) -> dict[str, float]:
    """Rates through a feed, once every worker has made its first blocks."""
    with Feed(make, workers=workers, slot_bytes=size + 128) as feed:
        for block in islice(feed, 4 * workers):
            touch(block.arrays)
        pids = [process.pid for process in feed.processes]
        cpu = sum(cpu_ns(pid) for pid in pids)
        own, wall = time.process_time(), time.perf_counter()
        for block in islice(feed, blocks):
            touch(block.arrays)
        own, wall = time.process_time() - own, time.perf_counter() - wall
        cpu = sum(cpu_ns(pid) for pid in pids) - cpu
    windows = blocks * shots
    return {
        "fed us": cpu / windows / 1e3,
        "reader us": own / windows * 1e6,
        "fed/s wall": windows / wall,
    }


def touch(arrays: tuple[np.ndarray, ...]) -> None:
    """Read all of it, as a copy to a GPU does."""
    for array in arrays:
        array.max()


def measure(labels: str, d: int, o: argparse.Namespace) -> dict[str, Any]:
    make = partial(Windows, labels, d, o.model, o.noise, o.shots)
    seconds, size = alone(make, o.shots, o.repeats)
    row: dict[str, Any] = {
        "labels": labels,
        "d": d,
        "rounds": d,
        "bytes": size // o.shots,
        "us": seconds * 1e6,
        "per core": 1 / seconds,
    }
    row |= fed(make, size, o.shots, o.repeats, o.workers)
    row[f"{CORES} cores"] = CORES * 1e6 / row["fed us"]
    row[f"of {WANTED:,}"] = row[f"{CORES} cores"] / WANTED
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distances", default="5,9,13")
    parser.add_argument("--model", default="uniform", help="noise model")
    parser.add_argument("--noise", type=float, default=0.006, help="its p")
    parser.add_argument("--shots", type=int, default=512, help="windows in a block")
    parser.add_argument("--repeats", type=int, default=40, help="blocks")
    parser.add_argument("--workers", type=int, default=max(1, (psutil.cpu_count() or 2) // 2))
    parser.add_argument("--save", action="store_true")
    o = parser.parse_args()
    plan = [(labels, int(d)) for d in o.distances.split(",") for labels in LABELS]
    rows = [measure(*one, o) for one in track(plan, description="measuring", transient=True)]
    settings = {k: v for k, v in vars(o).items() if k not in ("save", "distances")}
    show("training samples", rows, save="data" if o.save else "", **settings)


if __name__ == "__main__":
    main()
