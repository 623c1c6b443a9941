"""An engine that is only a schedule of events: streams in order, latencies and fates as wished."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from qdec.accelerator.executor import Completion, Job
from qdec.accelerator.latency import Buckets
from qdec.accelerator.scheduler import NEVER, Scheduler
from qdec.accelerator.work import Batch, Hung, Reason, Skip, Start, StreamTerms, WaitUntil, Work
from qdec.bits import Bytes
from qdec.match import Answers

# ns that a batch takes on a stream once it runs; None if it never ends.
Latency = Callable[[Batch, int], int | None]


def affine(fixed: int, each: int) -> Latency:
    """As GPUs do: so much for a batch, so much for each window of its bucket."""
    return lambda batch, _stream: batch.passes * (fixed + each * batch.bucket)


def seeds(fixed: int, each: int, buckets: Buckets) -> dict[int, int]:
    """What such an engine is measured to take."""
    return {size: fixed + each * size for size in buckets.sizes}


@dataclass
class Log:
    """What became of each work, by its number; times in ns."""

    started: dict[int, tuple[int, Batch, int]] = field(default_factory=dict)
    skipped: dict[int, tuple[int, Reason]] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    batches: list[tuple[int, int, Batch]] = field(default_factory=list)
    hung: list[tuple[int, int]] = field(default_factory=list)

    def in_time(self, works: Iterable[Work]) -> int:
        """How many windows were."""
        return sum(one.windows for one in works if self.ended.get(one.number, NEVER) <= one.give_up)


class Simulation:
    """A scheduler, its engine and a clock that jumps from event to event."""

    def __init__(self, scheduler: Scheduler, latency: Latency) -> None:
        self.scheduler = scheduler
        self.latency = latency
        self.log = Log()
        self.now = 0
        self._free: dict[int, int] = {}

    def run(self, arrivals: Iterable[tuple[int, Work]], *, until: int = NEVER) -> Log:
        """Have works arrive at their times, and go on until nothing happens any more."""
        coming = sorted(arrivals, key=lambda one: (one[0], one[1].number), reverse=True)
        running: list[tuple[int, int]] = []  # (end, batch)
        wake = NEVER
        while True:
            times = [wake]
            times += [coming[-1][0]] if coming else []
            times += [running[0][0]] if running else []
            self.now = max(self.now, min(times))
            if self.now >= until:
                return self.log
            while running and running[0][0] <= self.now:
                batch = self.scheduler.completed(heapq.heappop(running)[1], self.now)
                assert batch is not None
                self.log.ended.update({one.number: self.now for one in batch.work})
            while coming and coming[-1][0] <= self.now:
                refused = self.scheduler.add(coming.pop()[1], self.now)
                if refused is not None:
                    self._skip(refused)
            wake = self._decide(running)

    def _decide(self, running: list[tuple[int, int]]) -> int:
        for decision in self.scheduler.decide(self.now):
            match decision:
                case Start(stream, batch):
                    self._start(stream, batch, running)
                case Skip():
                    self._skip(decision)
                case WaitUntil(at):
                    assert at > self.now
                    return at
                case Hung(stream, _):
                    self.log.hung.append((self.now, stream))
        return NEVER

    def _start(self, stream: int, batch: Batch, running: list[tuple[int, int]]) -> None:
        self.log.batches.append((self.now, stream, batch))
        for one in batch.work:
            assert one.number not in self.log.started
            assert one.number not in self.log.skipped
            self.log.started[one.number] = self.now, batch, stream
        took = self.latency(batch, stream)
        begins = max(self.now, self._free.get(stream, 0))
        self._free[stream] = NEVER if took is None else begins + took
        if self._free[stream] < NEVER:
            heapq.heappush(running, (self._free[stream], batch.number))

    def _skip(self, skip: Skip) -> None:
        assert skip.work.number not in self.log.started
        assert skip.work.number not in self.log.skipped
        self.log.skipped[skip.work.number] = self.now, skip.reason


class LateExecutor:
    """An `Executor` whose batches are done when a test says so, in whatever order."""

    def __init__(self, streams: int = 1, most: int = 1, buckets: Buckets | None = None) -> None:
        self.streams = [StreamTerms(buckets or Buckets.doubling(8), most=most)] * streams
        self.jobs: dict[int, tuple[int, Job]] = {}
        self.fails: Exception | None = None
        self._done: list[Completion] = []

    def submit(self, stream: int, job: Job) -> None:
        if self.fails is not None:
            raise self.fails
        assert sum(one == stream for one, _ in self.jobs.values()) < self.streams[stream].most
        self.jobs[job.number] = stream, job

    def finish(self, number: int, answers: tuple[Answers | None, ...] | None = None) -> None:
        """A batch is done: with the first bytes of its syndromes, or these answers."""
        _, job = self.jobs.pop(number)
        if answers is None:
            answers = tuple(first_bytes(one.syndromes) for one in job.requests)
        self._done.append(Completion(number, 1000, answers))

    def completions(self) -> list[Completion]:
        if self.fails is not None:
            raise self.fails
        done, self._done = self._done, []
        return done

    def fileno(self) -> int | None:
        return None


def first_bytes(syndromes: Bytes) -> Answers:
    """Answers that say which window they are to."""
    return Answers(syndromes[:, :1].copy(), np.ones(len(syndromes), dtype=np.bool_))
