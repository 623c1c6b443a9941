"""What the accelerator does, without its process: requests in, batches decoded, replies out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qdec.accelerator.exchange import Exchange, Reply, Request, Status
from qdec.accelerator.executor import CallingExecutor, Completion, Executor, Job, Kind
from qdec.accelerator.latency import LatencyModel
from qdec.accelerator.scheduler import Scheduler
from qdec.accelerator.stats import AcceleratorStats
from qdec.accelerator.work import Batch, Hung, Skip, Start, Terms, WaitUntil, Work
from qdec.errors import ArenaError, DeviceError, DeviceFault
from qdec.match import Answers, Tier

log = logging.getLogger("qdec.accelerator")


class _Asked(NamedTuple):
    lane: int
    slot: int
    ticket: int
    request: Request
    came: int


class Worker:
    """Decodes for lanes: collects, has the scheduler decide and the executor work, acknowledges."""

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        kinds: Mapping[int, Kind],
        generation: int,
        *,
        batch: int,
        stats: AcceleratorStats | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        executor: Executor | None = None,
        terms: Terms | None = None,
    ) -> None:
        """Begin with nothing: what was requested before is somebody else's.

        Args:
            exchanges: the slots of each lane.
            kinds: compiled windows by the number that requests give.
            generation: this accelerator's.
            batch: most windows per call of a decoder, unless one request has more.
            stats: where to count; privately if None.
            clock: ns of CLOCK_MONOTONIC.
            executor: runs the batches; if None, the kinds' decoders are called.
            terms: how its streams are used.
        """
        self._exchanges = exchanges
        self._kinds = kinds
        self._generation = generation
        self._stats = stats or AcceleratorStats()
        self._clock = clock
        self._executor = executor or CallingExecutor(kinds, batch, clock)
        models = {number: LatencyModel(kind.warm) for number, kind in kinds.items()}
        self._scheduler = Scheduler(self._executor.streams, models, terms)
        self._seen = [np.array(one.requested) for one in exchanges]
        self._arrived: list[_Asked] = []
        self._asked: dict[int, _Asked] = {}
        self._out: dict[int, Batch] = {}
        self._rung: set[int] = set()
        self._next = 1
        self.wake_at = 0

    @property
    def pending(self) -> int:
        """Requests that are not acknowledged yet."""
        return len(self._arrived) + len(self._asked)

    def collect(self) -> None:
        """Look for new requests."""
        for lane, (exchange, seen) in enumerate(zip(self._exchanges, self._seen, strict=True)):
            slots = np.flatnonzero(np.asarray(exchange.requested) != seen).tolist()
            for ticket, slot in sorted((exchange.requested[slot], slot) for slot in slots):
                seen[slot] = ticket
                self._take(lane, slot, ticket)

    def _take(self, lane: int, slot: int, ticket: int) -> None:
        try:
            request = self._exchanges[lane].request(slot)
        except ArenaError as error:
            log.error("lane process %d: %s", lane, error)
            self._exchanges[lane].acknowledge(slot, ticket, Reply(Status.FAILED))
            self._rung.add(lane)
            return
        if request.generation == self._generation:
            self._arrived.append(_Asked(lane, slot, ticket, request, self._clock()))

    def turn(self) -> set[int]:
        """Take what is done, begin what should be. The lanes that have something acknowledged.

        Sets `wake_at`: ns at which to call this again if nothing comes or is done before.

        Raises:
            DeviceError: the executor cannot go on, or a batch of it never comes back.
        """
        now = self._clock()
        self._take_back(now)
        self._admit(now)
        begun = False
        for decision in self._scheduler.decide(now):
            match decision:
                case Start(stream, batch):
                    self._begin(stream, batch, now)
                    begun = True
                case Skip():
                    self._refuse(decision)
                case WaitUntil(at):
                    self.wake_at = at
                case Hung(stream, batch):
                    raise DeviceError(
                        DeviceFault.HUNG,
                        f"a batch of {sum(one.windows for one in batch.work)} windows on stream "
                        f"{stream} does not come back",
                    )
        if begun and self._take_back(self._clock()):
            self.wake_at = now  # a stream is free again
        rung, self._rung = self._rung, set()
        return rung

    def _admit(self, now: int) -> None:
        arrived, self._arrived = self._arrived, []
        for one in arrived:
            request = one.request
            kind, windows = self._kinds.get(request.kind), len(request.syndromes)
            if kind is None:
                self._stats.unknown += windows
                self._acknowledge(one, Reply(Status.UNKNOWN))
                continue
            number = self._next
            self._next += 1
            self._asked[number] = one
            work = Work(number, request.kind, windows, request.give_up, one.lane, kind.priority)
            refused = self._scheduler.add(work, now)
            if refused is not None:
                self._refuse(refused)

    def _refuse(self, skip: Skip) -> None:
        self._stats.skipped[skip.reason] += skip.work.windows
        self._acknowledge(self._asked.pop(skip.work.number), Reply(Status.SKIPPED))

    def _begin(self, stream: int, batch: Batch, now: int) -> None:
        asked = [self._asked[one.number] for one in batch.work]
        for one in asked:
            self._stats.wait.add(max(0, now - one.came), len(one.request.syndromes))
        requests = tuple(one.request for one in asked)
        job = Job(batch.number, batch.kind, batch.bucket, batch.passes, requests)
        self._out[batch.number] = batch
        try:
            self._executor.submit(stream, job)
        except Exception as error:
            raise _fault(error) from error

    def _take_back(self, now: int) -> bool:
        """Acknowledge what is done: whether there is any."""
        if not self._out:
            return False
        try:
            done = self._executor.completions()
        except Exception as error:
            raise _fault(error) from error
        for one in done:
            batch = self._out.pop(one.number, None)
            if batch is None:
                log.error("batch %d came back, which is not out", one.number)
                continue
            self._scheduler.completed(one.number, now)
            self._answer(batch, one)
        return bool(done)

    def _answer(self, batch: Batch, done: Completion) -> None:
        windows = sum(one.windows for one in batch.work)
        each = done.took // windows
        self._stats.batches += 1
        self._stats.batch.add(done.took)
        said = done.answers
        if len(said) != len(batch.work):
            said = (None,) * len(batch.work)
        for work, answers in zip(batch.work, said, strict=True):
            one = self._asked.pop(work.number)
            if answers is None or not _sound(answers, work.windows, one.request.answer_bytes):
                self._stats.failed += work.windows
                self._acknowledge(one, Reply(Status.FAILED, took=each))
                continue
            self._stats.windows += work.windows
            fenced = self._kinds[batch.kind].fenced
            self._acknowledge(one, Reply(Status.ANSWERED, answers, fenced, each))

    def _acknowledge(self, one: _Asked, reply: Reply) -> None:
        self._exchanges[one.lane].acknowledge(one.slot, one.ticket, reply)
        self._rung.add(one.lane)


def _fault(error: Exception) -> DeviceError:
    """What an executor raised, as what it is to mean: it cannot go on."""
    if isinstance(error, DeviceError):
        return error
    return DeviceError(DeviceFault.ERROR, f"{type(error).__name__}: {error}")


def _sound(answers: Answers, n: int, answer_bytes: int) -> bool:
    """Whether answers to so many windows can be what they should be."""
    shapes = [answers.bits.shape == (n, answer_bytes), answers.feasible.shape == (n,)]
    beside = [one for one in (answers.confidence, answers.tiers) if one is not None]
    shapes += [one.shape == (n,) for one in beside]
    shapes += [answers.bits.dtype.char == "B", answers.feasible.dtype.char == "?"]
    if False not in shapes and (answers.tiers is None or set(answers.tiers.tolist()) <= set(Tier)):
        return True
    log.error("a decoder answered %d windows with what is no answer", n)
    return False
