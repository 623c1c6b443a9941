"""Offered load from 0.2 to 2 times what a lane can do: latency, misses, refused credits, use.

Two streams of d=11 shots, configured with ``credit = "latency"``, each shot one window and one
message. First the lane's capacity: as much in flight as its ring holds. Then open loop: messages
fall due at a fixed rate, whether or not anything was answered. What there is no credit for when it
falls due is *refused*: a source that cannot wait gives those shots up, and the next ones are due
all the same. *Useful* are windows answered within their deadline. The knee is the least load from
which on more than a hundredth is refused or late. Past it, where as much is offered as was ever
useful, useful throughput should stay at 95 % of its peak, and the 99th percentile of the time that
what was accepted is in the lane below twice the deadline.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, print_table

from qdec.bits import Bytes
from qdec.client import CodeText, Commits, open_stream
from qdec.client.stream import LaneStream, wait_readable
from qdec.commit import Flag
from qdec_tools.chaos.patches import Patch, ShotRounds
from qdec_tools.service import running_service

STREAMS = 2
LOADS = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
ROUNDS = 7
NOISE = 0.003
LEAST_SHARE = 0.95
KNEE_SHARE = 0.01
# Messages ahead of their time that are made together.
MADE = 512


@dataclass
class Load:
    """What came of one offered load.

    Attributes:
        offered: windows that fell due.
        refused: of those, given up for want of credit.
        rows: the commits of the others.
        client_ns: from when each of those fell due until it was handed over.
        seconds: how long windows fell due.
    """

    offered: int
    refused: int
    rows: Commits
    client_ns: np.ndarray[Any, Any]
    seconds: float


class Source:
    """The same shots over and over, since sampling them takes longer than decoding them."""

    def __init__(self, patch: Patch, shots: int) -> None:
        """Sample them once; `shots` make a message."""
        rounds = ShotRounds(patch, 1)
        self._messages = [rounds.next(shots * patch.length).copy() for _ in range(MADE)]
        self._at = 0

    def next(self) -> Bytes:
        """The next message."""
        self._at = (self._at + 1) % MADE
        return self._messages[self._at]


def capacity(streams: Sequence[LaneStream], source: Source, seconds: float) -> float:
    """Windows per second with as much in flight as credits allow."""
    windows = 0
    begun = time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        for stream in streams:
            while stream.unsent == 0:
                stream.send(source.next())
            windows += sum(len(rows) for rows in stream.poll())
        wait_readable(0.001, *(stream.socket for stream in streams))
    took = now - begun
    for stream in streams:
        stream.drain()
    return windows / took


def offer(
    streams: Sequence[LaneStream], source: Source, rate: float, shots: int, seconds: float
) -> Load:
    """Open loop: `rate` windows per second in messages of some shots, on all streams together."""
    every_ns = int(1e9 * shots * len(streams) / rate)
    begun = time.monotonic_ns()
    due = [begun + every_ns * k // len(streams) for k in range(len(streams))]
    end = begun + int(seconds * 1e9)
    offered = refused = 0
    found: list[Commits] = []
    taken: list[np.ndarray[Any, Any]] = []

    def take(stream: LaneStream) -> None:
        for rows in stream.poll():
            found.append(rows)
            taken.append(time.monotonic_ns() - rows["t_send"].astype(np.int64))

    while min(due) < end:
        now = time.monotonic_ns()
        for k, stream in enumerate(streams):
            take(stream)
            while due[k] <= min(now, end):
                message = source.next()
                offered += shots
                if stream.unsent:
                    refused += shots
                else:
                    stream.send(message, t_send=due[k])
                due[k] += every_ns
        left = (min(due) - time.monotonic_ns()) / 1e9
        if left > 0:
            wait_readable(left, *(stream.socket for stream in streams))
    took = (time.monotonic_ns() - begun) / 1e9
    for stream in streams:
        found += stream.drain()
    rows = np.concatenate(found)
    return Load(offered, refused, rows, np.concatenate(taken), took)


def row_of(load: Load, share: float) -> dict[str, Any]:
    """What the table says of one load."""
    flags = load.rows["flags"]
    late = (flags & Flag.LATE) != 0
    ours = late & ((flags & Flag.PREEMPTED) == 0)
    latency = np.quantile(load.rows["latency_ns"], [0.5, 0.99, 0.999]) / 1e3
    client = np.quantile(load.client_ns, [0.5, 0.99]) / 1e3
    return {
        "load": share,
        "offered/s": load.offered / load.seconds,
        "answered/s": len(load.rows) / load.seconds,
        "useful/s": int((~late).sum()) / load.seconds,
        "refused %": 100 * load.refused / load.offered,
        "late %": 100 * float(late.mean()),
        "late, ours %": 100 * float(ours.mean()),
        "lane p50 us": float(latency[0]),
        "lane p99 us": float(latency[1]),
        "lane p99.9 us": float(latency[2]),
        "client p50 us": float(client[0]),
        "client p99 us": float(client[1]),
    }


def knee_of(rows: list[dict[str, Any]]) -> float | None:
    """The least load from which on something is refused or late."""
    knee = None
    for row in reversed(rows):
        if row["refused %"] + row["late %"] <= 100 * KNEE_SHARE:
            break
        knee = float(row["load"])
    return knee


def judged(rows: list[dict[str, Any]], deadline_us: int) -> dict[str, Any]:
    """Where the knee is, and whether it holds past it."""
    knee = knee_of(rows)
    peak = max(row["useful/s"] for row in rows)
    full = [row for row in rows if row["offered/s"] >= peak]
    past = [row for row in full if knee is not None and row["load"] >= knee]
    least = min((row["useful/s"] / peak for row in past), default=1.0)
    p99 = max((row["lane p99 us"] for row in past), default=0.0)
    ok = least >= LEAST_SHARE and p99 <= 2 * deadline_us
    return {"knee": knee, "useful past it": least, "lane p99 us past it": p99, "ok": ok}


def plot(rows: list[dict[str, Any]], found: dict[str, Any], deadline_us: int, path: Path) -> None:
    """The curves, with the knee marked."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "qdec"
    from matplotlib import pyplot

    x = [row["load"] for row in rows]
    figure, (use, late, wait) = pyplot.subplots(3, 1, figsize=(8, 9), sharex=True)
    for name in ("offered/s", "answered/s", "useful/s"):
        use.plot(x, [row[name] for row in rows], "o-", label=name)
    use.set_ylabel("windows per second")
    for name in ("refused %", "late %", "late, ours %"):
        late.plot(x, [row[name] for row in rows], "o-", label=name)
    late.set_ylabel("% of offered, of answered")
    for name in ("lane p50 us", "lane p99 us", "client p50 us", "client p99 us"):
        wait.plot(x, [row[name] for row in rows], "o-", label=name.removesuffix(" us"))
    wait.axhline(deadline_us, color="0.5", linestyle="--", label="deadline")
    wait.set(ylabel="µs", yscale="log", xlabel="offered load / measured capacity")
    for axis in (use, late, wait):
        if found["knee"] is not None:
            axis.axvline(found["knee"], color="C3", linestyle=":", label="knee")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distance", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--shots", type=int, default=1, help="per message")
    parser.add_argument("--deadline-us", type=int, default=2000)
    parser.add_argument("--ring-rounds", type=int, default=16384, help="most in flight")
    parser.add_argument("--credit", default="latency", help="latency or ring, as configured")
    parser.add_argument("--save", action="store_true", help="to results/overload.json and .svg")
    o = parser.parse_args()
    patch = Patch("load", o.distance, "whole", noise=NOISE, shot_rounds=ROUNDS)
    guest = CodeText("circuit", str(patch.circuit))
    source = Source(patch, o.shots)

    @contextmanager
    def opened(credit: str) -> Iterator[list[LaneStream]]:
        more = f'[defaults]\nring_rounds = {o.ring_rounds}\ncredit = "{credit}"\n'
        options = {"code": guest, "windows": "whole", "deadline_us": o.deadline_us}
        with running_service(tables=more) as service, ExitStack() as stack:
            names = [f"load{k}" for k in range(STREAMS)]
            streams = [
                stack.enter_context(open_stream(service.endpoint, name, **options))
                for name in names
            ]
            yield [one for one in streams if isinstance(one, LaneStream)]

    with opened("ring") as streams:
        capacity(streams, source, 1.0)
        most = capacity(streams, source, o.seconds)
    with opened(o.credit) as streams:
        rows = [
            row_of(offer(streams, source, share * most, o.shots, o.seconds), share)
            for share in LOADS
        ]
    found = judged(rows, o.deadline_us)
    settings = {key: value for key, value in vars(o).items() if key != "save"}
    everything = {
        "benchmark": "offered load against what becomes of it",
        **machine(),
        **settings,
        "streams": STREAMS,
        "capacity/s": most,
        **found,
        "rows": rows,
    }
    print_table(f"offered load; capacity {most:,.0f} windows/s", rows)
    if o.save:
        plot(rows, found, o.deadline_us, RESULTS / "overload.svg")
        (RESULTS / "overload.json").write_text(json.dumps(everything, indent=1) + "\n")
    if not found["ok"]:
        print(
            f"past the knee: {found['useful past it']:.0%} of the peak is useful, p99 "
            f"{found['lane p99 us past it']:.0f} us",
            file=sys.stderr,
        )
    print(json.dumps(everything))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
