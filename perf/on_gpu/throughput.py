"""Section `throughput`: windows per second at a p99 bound, through the worker, in real time.

Requests of one window come as a Poisson process at a set rate into the slots of lanes; their
latency is from when they were due to the lane's having the answer. The rate grows until p99 is
beyond the bound or a window finds no slot. *busy*: times of the graphs that ran, as measured alone,
over the wall's; *engine share*: of those, the bare network's.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from on_gpu.cases import ACCURATE, FAST, SPEED, Case, Compiled, compile_case
from on_gpu.desk import FAR, KIND, Counting
from on_gpu.figures import Budget, arrivals, highest_rate, ratio
from on_gpu.lab import Lab
from on_gpu.section import Given
from qdec.accelerator.executor import Kind
from qdec.accelerator.gpu import GpuExecutor
from qdec.accelerator.gpu_frame import Frame, StreamKind
from qdec.accelerator.link import Link
from qdec.accelerator.stats import AcceleratorStats
from qdec.accelerator.work import Terms
from qdec.accelerator.worker import Worker
from qdec.arena import Arena
from qdec.bits import Bytes
from qdec.errors import DeviceError, DeviceFault
from qdec.windows.cut import answer_bytes

CASES = (Case(FAST, 13, 13), Case(FAST, 13, 104), Case(SPEED, 7, 7), Case(ACCURATE, 13, 13))
STREAMS = (1, 2, 3)
LANES = 4
BOUND_US = 2000.0
_SETTLES_S = 10.0
_START = 500.0  # windows per second


class Room:
    """Lanes and a worker, in this thread.

    Attributes:
        counting: what the executor was given.
    """

    def __init__(self, lab: Lab, compiled: Compiled, streams: int) -> None:
        """Share memory, capture graphs."""
        self._arena = Arena.create()
        memory, exchanges = self._arena.share_exchanges(LANES)
        words = AcceleratorStats(generation=1)
        mine = [self._arena.share_exchange(slot) for slot in range(LANES)]
        self._links = [Link(one, words, lambda: None) for one in mine]
        kinds = {KIND: Kind(compiled.decoder, fenced=False)}
        executor = GpuExecutor(
            lab.runtime, kinds, {KIND: compiled.kind}, memory, lab.batches, streams=streams
        )
        self.counting = Counting(executor)
        self._worker = Worker(
            exchanges,
            kinds,
            1,
            batch=lab.batches[-1],
            stats=words,
            executor=self.counting,
            terms=Terms(),
        )
        self._bytes = sum(answer_bytes(compiled.code.spacetime))

    def offer(self, windows: Bytes, rate: float, seconds: float, seed: int) -> tuple[Any, int]:
        """Windows at a rate: their latencies in µs, and how many found no slot."""
        self._settle()
        due = arrivals(rate, seconds, seed)
        self.counting.runs.clear()
        taken: list[float] = []
        out: dict[tuple[int, int], int] = {}
        lost = at = 0
        began = time.monotonic_ns()
        give_up = began + int(2e9 * seconds) + 2_000_000_000
        while at < len(due) or out:
            now = time.monotonic_ns()
            if now > give_up:
                return np.array(taken), lost + len(out) + len(due) - at  # `_settle` takes those
            while at < len(due) and began + due[at] <= now:
                lane = at % LANES
                one = windows[at % len(windows)][None]
                slot = self._links[lane].hand_over(KIND, FAR, one, self._bytes)
                if slot is None:
                    lost += 1
                else:
                    out[lane, slot] = began + int(due[at])
                at += 1
            self._worker.collect()
            self._worker.turn()
            for lane, link in enumerate(self._links):
                replies = link.collect().replies
                now = time.monotonic_ns()
                for slot, reply in replies:
                    came = out.pop((lane, slot))
                    if reply is None or reply.answers is None:
                        lost += 1
                    else:
                        taken.append((now - came) / 1e3)
        return np.array(taken), lost

    def _settle(self) -> None:
        """Wait for what an earlier trial did not.

        Raises:
            DeviceError: it does not come back.
        """
        give_up = time.monotonic() + _SETTLES_S
        while any(link.out for link in self._links):
            if time.monotonic() > give_up:
                raise DeviceError(DeviceFault.HUNG, f"{_SETTLES_S:g} s, and windows are still out")
            self._worker.collect()
            self._worker.turn()
            for link in self._links:
                link.collect()


def run(given: Given) -> None:
    """See the module."""
    for case, budget in given.each(CASES):
        given.tried(case, lambda case=case, budget=budget: measure(given, case, budget))


def measure(given: Given, case: Case, budget: Budget) -> None:
    """One case, a row for each number of streams."""
    lab = given.lab
    bound, trial_s = given.setting("bound_us", BOUND_US), given.setting("trial_s", 0.4)
    compiled = compile_case(case, given.models, lab.program)
    windows, _ = compiled.sample(256)
    graph_us, engine_us = alone(lab, compiled)
    for i, streams in enumerate(STREAMS):
        part = budget.share(len(STREAMS) - i)
        room = Room(lab, compiled, streams)
        room.offer(windows, _START, 0.05, 1)  # the first ones warm up
        best: dict[str, Any] = {}

        def holds(rate: float, room: Room = room, best: dict[str, Any] = best) -> bool:
            started = time.monotonic()
            taken, lost = room.offer(windows, rate, trial_s, 2)
            wall_us = (time.monotonic() - started) * 1e6
            p99 = float(np.quantile(taken, 0.99)) if len(taken) else float("inf")
            fits = not lost and p99 <= bound
            if fits:
                runs = room.counting.runs
                busy = sum(n * graph_us[size] for size, n in runs.items())
                engine = sum(n * engine_us[size] for size, n in runs.items())
                best.update(
                    {
                        "p50 us": float(np.median(taken)),
                        "p99 us": p99,
                        "windows/batch": len(taken) / max(1, sum(runs.values())),
                        "busy": busy / wall_us,
                        "engine share": ratio(engine, busy),
                    }
                )
            return fits

        rate = highest_rate(holds, _START, left=lambda part=part: part.left > 2 * trial_s)
        given.emit(
            {
                **case.columns,
                "weights": given.models.said(case.model),
                "by": lab.ran[compiled.content, compiled.size],
                "streams": streams,
                "bound us": bound,
                "windows/s": rate,
                **best,
            }
        )


def alone(lab: Lab, compiled: Compiled) -> tuple[dict[int, float], dict[int, float]]:
    """µs of the graph and of the network in it, by batch, with nothing beside."""
    runtime = lab.runtime
    stream = runtime.stream(urgent=True)
    on = StreamKind(runtime, stream, compiled.kind)
    arena = runtime.shared((4096,), np.uint8)
    graph, engine = {}, {}
    for size in lab.batches:
        frame = Frame(on, arena, size)

        def whole(frame: Frame = frame) -> None:
            for stage in frame.stages.values():
                stage()

        graph[size] = statistics.median(lab.timed(stream, whole))
        network = frame.stages["network"]
        engine[size] = statistics.median(lab.timed(stream, network))
    return graph, engine
