"""What the accelerator does, without its process: requests in, batches decoded, replies out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qdec.accelerator.exchange import Exchange, Reply, Request, Status
from qdec.accelerator.stats import AcceleratorStats
from qdec.bits import Bytes
from qdec.errors import ArenaError
from qdec.match import Answers, CompiledWindow, Tier

log = logging.getLogger("qdec.accelerator")


class Kind(NamedTuple):
    """A kind of window that was compiled.

    Attributes:
        decoder: answers it.
        fenced: its tier fails the code's fault-distance gate.
    """

    decoder: CompiledWindow
    fenced: bool


class _Pending(NamedTuple):
    lane: int
    slot: int
    ticket: int
    request: Request


class Worker:
    """Decodes for lanes, the most urgent first, together what is alike and there."""

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        kinds: Mapping[int, Kind],
        generation: int,
        *,
        batch: int,
        stats: AcceleratorStats | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin with nothing: what was requested before is somebody else's.

        Args:
            exchanges: the slots of each lane.
            kinds: compiled windows by the number that requests give.
            generation: this accelerator's.
            batch: most windows per call of a decoder, unless one request has more.
            stats: where to count; privately if None.
            clock: ns of CLOCK_MONOTONIC.
        """
        self._exchanges = exchanges
        self._kinds = kinds
        self._generation = generation
        self._batch = batch
        self._stats = stats or AcceleratorStats()
        self._clock = clock
        self._seen = [np.array(one.requested) for one in exchanges]
        self._pending: list[_Pending] = []
        self._cost: dict[int, float] = {}

    @property
    def pending(self) -> int:
        """Requests that are not acknowledged yet."""
        return len(self._pending)

    def collect(self) -> None:
        """Look for new requests."""
        for lane, (exchange, seen) in enumerate(zip(self._exchanges, self._seen, strict=True)):
            for slot in np.flatnonzero(np.asarray(exchange.requested) != seen).tolist():
                ticket = seen[slot] = exchange.requested[slot]
                self._take(lane, slot, ticket)

    def _take(self, lane: int, slot: int, ticket: int) -> None:
        try:
            request = self._exchanges[lane].request(slot)
        except ArenaError as error:
            log.error("lane process %d: %s", lane, error)
            self._exchanges[lane].acknowledge(slot, ticket, Reply(Status.FAILED))
            return
        if request.generation == self._generation:
            self._pending.append(_Pending(lane, slot, ticket, request))

    def turn(self) -> set[int]:
        """Decode one batch. The lanes that have something acknowledged; none if nothing is left."""
        rung: set[int] = set()
        if not self._pending:
            return rung
        now = self._clock()
        possible: list[_Pending] = []
        for one in self._pending:
            status = self._hopeless(one.request, now)
            if status is None:
                possible.append(one)
            else:
                self._acknowledge(one, Reply(status))
                rung.add(one.lane)
        self._pending = possible
        if possible:
            batch = self._urgent()
            self._decode(batch)
            rung.update(one.lane for one in batch)
        return rung

    def _hopeless(self, request: Request, now: int) -> Status | None:
        """Why a request need not be begun, if so."""
        n = len(request.syndromes)
        if request.kind not in self._kinds:
            self._stats.unknown += n
            return Status.UNKNOWN
        if now + n * self._cost.get(request.kind, 0.0) > request.give_up:
            self._stats.skipped += n
            return Status.SKIPPED
        return None

    def _urgent(self) -> list[_Pending]:
        """The most urgent request, with others of its kind in the order of their deadlines."""
        order = sorted(self._pending, key=lambda one: one.request.give_up)
        first = order[0].request
        batch: list[_Pending] = []
        rest: list[_Pending] = []
        room = self._batch
        for one in order:
            request = one.request
            alike = request.kind == first.kind and (
                request.syndromes.shape[1] == first.syndromes.shape[1]
            )
            n = len(request.syndromes)
            if alike and (not batch or n <= room):
                batch.append(one)
                room -= n
            else:
                rest.append(one)
        self._pending = rest
        return batch

    def _decode(self, batch: Sequence[_Pending]) -> None:
        request = batch[0].request
        kind = self._kinds[request.kind]
        syndromes = request.syndromes
        if len(batch) > 1:
            syndromes = np.concatenate([one.request.syndromes for one in batch])
        windows = len(syndromes)
        started = self._clock()
        answers = _answers(kind.decoder, syndromes, request.answer_bytes)
        took = self._clock() - started
        if answers is None and len(batch) > 1:
            for one in batch:  # one of them may be to blame
                self._decode([one])
            return
        each = took // windows
        # Slow to rise: a window is not skipped because an odd one before it took long.
        known = self._cost.setdefault(request.kind, float(each))
        self._cost[request.kind] = known + (each - known) / (16 if each > known else 2)
        self._stats.batches += 1
        self._stats.batch.add(took)
        at = 0
        for one in batch:
            n = len(one.request.syndromes)
            if answers is None:
                self._stats.failed += n
                self._acknowledge(one, Reply(Status.FAILED, took=each))
                continue
            self._stats.windows += n
            part = answers if n == windows else answers.part(at, at + n)
            self._acknowledge(one, Reply(Status.ANSWERED, part, kind.fenced, each))
            at += n

    def _acknowledge(self, one: _Pending, reply: Reply) -> None:
        self._exchanges[one.lane].acknowledge(one.slot, one.ticket, reply)


def _answers(decoder: CompiledWindow, syndromes: Bytes, answer_bytes: int) -> Answers | None:
    """What a decoder says; None if it fails, or says what cannot be."""
    n = len(syndromes)
    try:
        answers = decoder.decode(syndromes)
        sizes = [answers.bits.shape == (n, answer_bytes), answers.feasible.shape == (n,)]
        beside = [one for one in (answers.confidence, answers.tiers) if one is not None]
        sizes += [one.shape == (n,) for one in beside]
        if answers.tiers is not None and not set(answers.tiers.tolist()) <= set(Tier):
            sizes.append(False)
        if all(sizes):
            return answers
        log.error("a decoder answered %d windows in another shape", n)
    except Exception:
        log.exception("a decoder failed on %d windows", n)
    return None
