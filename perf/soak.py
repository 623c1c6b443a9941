"""Hours of faults: nothing lost, and neither memory, file handles, backlog nor latency drift.

The service and the faults are those of `qdec chaos`, with more time between faults. Every second
the memory (PSS, USS) and open files of each process are sampled, and what its clients wait for. A
process is looked at from its warm-up to its end, or until its role changes; what is alike in all
generations of a role is tested together: a Mann-Kendall test with the generations as strata, on
medians of blocks of time (neighbouring samples are alike), and the median of all slopes within
generations (Theil-Sen). Growth that is significant, and more than the resolution of what is
measured, fails.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from common import RESULTS, machine, print_table

from qdec_tools.chaos import processes
from qdec_tools.chaos.command import as_object, chosen
from qdec_tools.chaos.course import run
from qdec_tools.chaos.stage import Stage

SAMPLE_S = 1.0
GAP_S = (4.0, 12.0)
# Chance of a false alarm, over all series together.
ALPHA = 0.01
# What is too little to be told from how it is measured: pages, a socket in between, a batch; and
# a process's share of memory changes with every other process that comes and goes.
RESOLUTION = {"pss MB": 2.0, "uss MB": 0.5, "files": 0.9, "backlog": 50.0, "latency ms": 1.0}
LEAST_BLOCKS = 4

Series = list[tuple[float, float]]


@dataclass
class Samples:
    """What was measured: for each quantity and role, (s, value) of each generation.

    Attributes:
        series: by (quantity, role), then by generation.
    """

    series: dict[tuple[str, str], dict[int, Series]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, what: str, role: str, generation: int, at: float, value: float) -> None:
        """Add one value."""
        self.series[what, role][generation].append((at, value))


class Sampler(threading.Thread):
    """Looks at everything once a second."""

    def __init__(self, stage: Stage) -> None:
        """Begin with `start`."""
        super().__init__(daemon=True)
        self.samples = Samples()
        self.stopping = threading.Event()
        self._stage = stage
        self._began = time.monotonic()
        self._seen = {patch.name: 0 for patch in stage.patches}
        # A role that changes begins a generation.
        self._generations = itertools.count()
        self._roles: dict[int, tuple[str, int]] = {}

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def run(self) -> None:
        """See `Thread.run`."""
        while not self.stopping.wait(SAMPLE_S):
            self._look()

    def _look(self) -> None:
        found = dict(self._stage.everything)
        found |= {self._stage.client(patch.name): "client" for patch in self._stage.patches}
        for pid, role in found.items():
            role = role.partition(" ")[0]
            before = self._roles.get(pid)
            if before is None or before[0] != role:
                self._roles[pid] = (role, next(self._generations))
            generation = self._roles[pid][1]
            memory = processes.memory_bytes(pid)
            if not memory:
                continue
            at = self.now
            self.samples.add("pss MB", role, generation, at, memory["pss"] / 1e6)
            self.samples.add("uss MB", role, generation, at, memory["uss"] / 1e6)
            self.samples.add("files", role, generation, at, processes.open_files(pid))
        self._listen()

    def _listen(self) -> None:
        """What clients wait for, and how long what they were handed took in its lane."""
        waiting, latencies = 0, []
        for patch in self._stage.patches:
            rows = self._stage.rows(patch, self._seen[patch.name])
            self._seen[patch.name] += len(rows)
            latencies.append(rows["latency_ns"] if len(rows) else np.zeros(0))
            waiting += self._stage.waiting(patch)
        together = np.concatenate(latencies) if latencies else np.zeros(0)
        at = self.now
        self.samples.add("backlog", "all streams", 0, at, waiting)
        if len(together):
            self.samples.add("latency ms", "all streams", 0, at, float(np.median(together)) / 1e6)


def blocks(series: Series, warm_up_s: float, block_s: float) -> Series:
    """Medians of blocks of time of one generation, after its warm-up."""
    if not series:
        return []
    start = series[0][0] + warm_up_s
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for at, value in series:
        if at >= start:
            found[int((at - start) / block_s)].append((at, value))
    return [
        (statistics.median(t for t, _ in one), statistics.median(v for _, v in one))
        for one in found.values()
    ]


def trend(generations: Sequence[Series]) -> tuple[float, float]:
    """(median slope per second, one-sided p of growth) of what rises within generations.

    Mann, Econometrica 13, 245 (1945); Kendall, Rank Correlation Methods (1948), with his correction
    for ties and for continuity; strata as Hirsch, Slack and Smith, Water Resour. Res. 18, 107
    (1982) have seasons.
    """
    score = variance = 0.0
    slopes: list[float] = []
    for series in generations:
        n = len(series)
        if n < LEAST_BLOCKS:
            continue
        at, values = np.array(series).T
        later, earlier = np.triu_indices(n, 1)[::-1]
        rise = values[later] - values[earlier]
        score += float(np.sign(rise).sum())
        ties = np.unique(values, return_counts=True)[1]
        variance += (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
        slopes += (rise / (at[later] - at[earlier])).tolist()
    if not slopes or variance <= 0:
        return 0.0, 1.0
    z = (score - math.copysign(1, score)) / math.sqrt(variance) if score else 0.0
    return statistics.median(slopes), 0.5 * math.erfc(z / math.sqrt(2))


def verdicts(samples: Samples, warm_up_s: float, block_s: float) -> list[dict[str, Any]]:
    """A row for each quantity and role: whether it drifts."""
    rows: list[dict[str, Any]] = []
    for (what, role), generations in sorted(samples.series.items()):
        cut = [blocks(one, warm_up_s, block_s) for one in generations.values()]
        cut = [one for one in cut if len(one) >= LEAST_BLOCKS]
        watched = sum(one[-1][0] - one[0][0] for one in cut)
        slope, p = trend(cut)
        longest = max((one[-1][0] - one[0][0] for one in cut), default=0.0)
        rows.append(
            {
                "what": what,
                "of": role,
                "generations": len(cut),
                "watched s": round(watched),
                "median": statistics.median([v for one in cut for _, v in one] or [math.nan]),
                "per hour": slope * 3600,
                "p": p,
                "grew": slope * longest,
            }
        )
    tested = sum(row["generations"] > 0 for row in rows)
    for row in rows:
        real = row.pop("grew") > RESOLUTION[row["what"]]
        row["drifts"] = bool(row["p"] < ALPHA / max(1, tested) and real)
    return rows


def plot(samples: Samples, faults: list[tuple[float, str]], path: Path) -> None:
    """Everything over time; a grey line for each fault."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "qdec"
    from matplotlib import pyplot

    shown = ("pss MB", "files", "backlog", "latency ms")
    figure, axes = pyplot.subplots(len(shown), 1, figsize=(9, 10), sharex=True)
    roles = sorted({role for _, role in samples.series})
    colours = {role: f"C{i}" for i, role in enumerate(roles)}
    for axis, what in zip(axes, shown, strict=True):
        for at, _ in faults:
            axis.axvline(at, color="0.9", linewidth=0.8, zorder=0)
        for (name, role), generations in sorted(samples.series.items()):
            if name != what:
                continue
            for number, series in enumerate(generations.values()):
                label = role if not number else None
                axis.plot(*zip(*series, strict=True), color=colours[role], linewidth=1, label=label)
        axis.set_ylabel(what)
        axis.legend(fontsize=7, loc="upper left", ncols=3)
    for axis in axes[2:]:
        axis.set_yscale("symlog")
    axes[-1].set_xlabel("s (grey: a fault)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", help="only these, as `qdec chaos` has them")
    parser.add_argument("--warm-up", type=float, default=20.0, help="s of each process")
    parser.add_argument("--block", type=float, default=5.0, help="s that one median stands for")
    parser.add_argument("--save", action="store_true", help="to results/soak.json and .svg")
    o = parser.parse_args()
    told: list[tuple[float, str]] = []
    with Stage(o.seed) as stage:
        sampler = Sampler(stage)
        sampler.start()

        def tick(words: str) -> None:
            if words in known:
                told.append((sampler.now, words))
            if "answers" in words:
                sampler.stopping.set()

        faults = chosen(o.faults)
        known = {fault.name for fault in faults}
        result = run(stage, faults, Random(o.seed), o.minutes * 60, tick, GAP_S)
        sampler.join()
    rows = verdicts(sampler.samples, o.warm_up, o.block)
    drifts = [row for row in rows if row["drifts"]]
    clean = result.clean and not drifts
    print_table("drift over time", rows)
    found = {
        "benchmark": "soak",
        **machine(),
        "minutes": o.minutes,
        "seed": o.seed,
        "ok": clean,
        "chaos": as_object(result),
        "problems": result.problems,
        "rows": rows,
    }
    if o.save:
        plot(sampler.samples, told, RESULTS / "soak.svg")
        (RESULTS / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    for row in drifts:
        print(f"{row['what']} of {row['of']} grows: {row['per hour']:.3g} an hour", file=sys.stderr)
    for line in [*result.problems, *result.wrongs]:
        print(line, file=sys.stderr)
    print(json.dumps(found))
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
