"""What the watchdog costs a lane's loop, and what it saves the streams beside a hopeless one.

*Cost*: one `LaneCore`, fed in this process without sockets, with and without the watchdog in turns:
what it compares and counts at each commit, how dense windows are, when the oldest is due. Without,
its calls are there and do nothing. The goal is at most 2 µs per window. `step` is what each stream
costs once a second beside that: burn rates, and whether to pause.

*Beside*: a stream of d=13 whose rounds are at times half-dense, and one of d=5 in a hurry, on one
lane: latencies of the second with every window decoded, and with dense ones passed over. The lane's
clock is its CPU time here, so that what else the machine does is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from common import show

from qdec.bits import Bytes
from qdec.bus.records import commit_dtype, read_records
from qdec.bus.wire import Commit, Open, OpenBody, Opened, Rounds, decode_from_lane, encode
from qdec.codes import Code
from qdec.commit import ShotDecoder, StreamDecoder
from qdec.config import Config, LaneConfig
from qdec.lane.core import LaneCore
from qdec.lane.library import Library
from qdec.lane.watchdog import Watchdog
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler


class Client:
    """The least that feeds a lane in this process."""

    def __init__(self, core: LaneCore, name: str, circuit: Any, **options: Any) -> None:
        """Open a stream with a code of its own."""
        self._core, self._peer = core, name.encode()
        body = OpenBody(stream=name, code="circuit", **options)
        core.receive(self._peer, [encode(Open(1, body, False)), str(circuit).encode()])
        _, (header, *_) = core.outbox.pop()
        opened = decode_from_lane(header)
        assert isinstance(opened, Opened), opened
        self._handle, self._epoch = opened.handle, opened.epoch
        self._dtype = commit_dtype(opened.body.frame_bytes, opened.body.seam_bytes)
        self.sent = 0

    def send(self, records: Bytes) -> None:
        """Send rounds."""
        n = len(records)
        header = encode(Rounds(self._handle, self._epoch, 1, self.sent, n, 0, 0))
        self._core.receive(self._peer, [header, records.tobytes()])
        self.sent += n

    def commits(self) -> np.ndarray:
        """Take what the lane has for it."""
        mine = [parts for peer, parts in self._core.outbox if peer == self._peer]
        self._core.outbox = [one for one in self._core.outbox if one[0] != self._peer]
        rows = [np.zeros(0, self._dtype)]
        for header, *body in mine:
            message = decode_from_lane(header)
            if isinstance(message, Commit):
                rows.append(read_records(body[0], message.n, self._dtype))
        return np.concatenate(rows)


def lane(clock: Callable[[], int] = time.monotonic_ns) -> LaneCore:
    settings = Config(lane=(LaneConfig(endpoints=("ipc:///none.ipc",)),))
    return LaneCore(settings, 0, b"k" * 32, Library(), clock)


@contextmanager
def without() -> Iterator[None]:
    """The same calls, that do nothing."""
    with ExitStack() as stack:
        for where, name, instead in (
            (Watchdog, "judge", lambda *_: None),
            (LaneCore, "_announce", lambda *_: None),
            (StreamDecoder, "_is_too_long", lambda *_: False),
            (ShotDecoder, "_is_too_long", lambda *_: False),
        ):
            stack.enter_context(patch.object(where, name, instead))
        yield


def cost(label: str, d: int, frame: int, turns: int, **options: Any) -> dict[str, Any]:
    """CPU time per window, in short turns; of each kind of turn the quickest quarter's slowest.

    (What else a machine does only ever adds to it.)
    """
    core = lane()
    circuit = memory(d, 2 * d + 4, 0.001)
    client = Client(core, "s", circuit, deadline_us=1_000_000, **options)
    # Another one, so that there is somebody to watch out for.
    Client(core, "other", memory(3, 10, 0.001), endless=True, windows="6,3", deadline_us=2000)
    records = sampled(circuit, endless=options["endless"])
    spent: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * turns + 2):
        watched = turn % 2 == 0
        with ExitStack() as stack:
            if not watched:
                stack.enter_context(without())
            done, started = 0, time.thread_time_ns()
            while done < 100:
                at = client.sent % (len(records) - frame)
                at -= at % frame
                client.send(records[at : at + frame])
                while core.work():
                    pass
                done += len(client.commits())
            took = time.thread_time_ns() - started
        core.show()
        if turn > 1:
            spent[watched].append(took / done / 1e3)
    watch = next(iter(core._sessions.values())).watch
    quick = {watched: float(np.quantile(took, 0.25)) for watched, took in spent.items()}
    return {
        "stream": label,
        "with us/window": quick[True],
        "without us/window": quick[False],
        "difference us": quick[True] - quick[False],
        "step us": timed(lambda: watch.step(time.monotonic_ns())),
    }


def timed(call: Callable[[], object], repeats: int = 2000) -> float:
    """Median µs of a call."""
    spent = []
    for _ in range(repeats):
        started = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - started)
    return statistics.median(spent) / 1e3


def sampled(circuit: Any, *, endless: bool) -> Bytes:
    code = Code.from_circuit(circuit)
    if endless:
        return EndlessSampler(code, 1).next(6000).copy()
    length = code.spacetime.rounds
    return np.concatenate([EndlessSampler(code, seed).close(length) for seed in range(200)])


def beside(passed_over: bool, windows: int) -> dict[str, Any]:
    """Latencies of a stream in a hurry beside one that is half-dense in a third of its windows."""
    core = lane(time.thread_time_ns)
    d13 = memory(13, 30, 0.003)
    noisy = Client(core, "d13", d13, endless=True, windows="26,13", deadline_us=10_000)
    hasty = Client(core, "d5", memory(5, 14, 0.003), endless=True, windows="10,5", deadline_us=2000)
    many, few = sampled(d13, endless=True), sampled(memory(5, 14, 0.003), endless=True)
    rng = np.random.default_rng(1)
    used = np.bitwise_or.reduce(many, axis=0)
    rows, others = [], []
    with ExitStack() as stack:
        of_cpu = SimpleNamespace(monotonic_ns=time.thread_time_ns)
        stack.enter_context(patch("qdec.commit.batch.time", of_cpu))
        if not passed_over:
            stack.enter_context(without())
        for i in range(windows):
            at = 13 * (i % 400)
            rounds = many[at : at + 13].copy()
            if i % 12 >= 8:
                rounds = rng.integers(0, 256, rounds.shape, dtype=np.uint8) & used
            noisy.send(rounds)
            for k in range(3):
                at = 5 * ((3 * i + k) % 1000)
                hasty.send(few[at : at + 5])
            while core.work():
                pass
            rows.append(hasty.commits())
            others.append(noisy.commits())
    latency = np.concatenate(rows)["latency_ns"][30:] / 1e3
    flags = np.concatenate(others)["flags"]
    return {
        "dense windows": "passed over" if passed_over else "decoded",
        "windows of d13": len(flags),
        "passed over": int((flags & 128 != 0).sum()),
        "d5 p50 us": float(np.median(latency)),
        "d5 p99 us": float(np.quantile(latency, 0.99)),
        "d5 max us": float(latency.max()),
        "d5 late": float((latency > 2000).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--turns", type=int, default=300, help="with the watchdog, and as many without"
    )
    parser.add_argument("--save", action="store_true", help="to results/watchdog*.json")
    o = parser.parse_args()
    rows = [
        cost("d=3, windows 6,3", 3, 60, o.turns, endless=True, windows="6,3"),
        cost("d=3, a window a message", 3, 3, o.turns, endless=True, windows="6,3"),
        cost("d=9, windows 18,9", 9, 9, o.turns, endless=True, windows="18,9"),
        cost("d=3, 64 whole shots", 3, 11 * 64, o.turns, endless=False, windows="whole"),
    ]
    title = "what the watchdog costs a lane"
    show(title, rows, save="watchdog" if o.save else "", turns=o.turns)
    rows = [beside(passed, 600) for passed in (False, True, False, True)]
    title = "a stream in a hurry beside one that is half-dense at times"
    show(title, rows, save="watchdog_beside" if o.save else "")


if __name__ == "__main__":
    main()
