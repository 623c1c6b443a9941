"""Windows that are ready together, decoded together, across shots and streams."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qdec.bits import Bytes
from qdec.commit.bank import WindowKey
from qdec.commit.cost import CostModel
from qdec.commit.dense import NoCorrection, is_dense
from qdec.commit.flags import Flag
from qdec.commit.marks import Mark
from qdec.match import Answers, CompiledWindow, Tier
from qdec.windows.geometry import Window

log = logging.getLogger("qdec.commit")
_UNCERTAIN = int(Flag.UNCERTAIN)


class Finisher(Protocol):
    """What takes the answers to its jobs.

    Attributes:
        cost: what its windows take.
    """

    cost: CostModel

    @property
    def answer_bytes(self) -> int:
        """Bytes of one window's answer: frame, then seam."""
        ...

    def key(self, job: Job) -> WindowKey:
        """What a job's windows are looked up by."""
        ...

    def finish(self, job: Job, answers: Answers) -> None:
        """Take the answers to a job's windows."""
        ...


@dataclass(slots=True)
class Job:
    """Windows ready to decode: one, or several whole shots.

    Attributes:
        stream: the stream they belong to.
        shot: what the stream knows them by.
        window: their place in their shot.
        decoder: the compiled window; jobs with the same one are decoded together.
        syndrome: ``(n, rounds * record_bytes)`` uint8, the seam already XORed in.
        flags: what is known before decoding, as bits of `qdec.commit.Flag`.
        came: when the last round of the last of them came.
        tier: what answers them.
        events: ones in `syndrome`.
        took: ns that the decoder's call took, once it is over.
        regions: commit regions of ordinary length in each of its windows.
    """

    stream: Finisher
    shot: object
    window: Window
    decoder: CompiledWindow
    syndrome: Bytes
    flags: int
    came: Mark
    tier: Tier
    events: int
    took: int = 0
    regions: int = 1

    @property
    def cost(self) -> int:
        """What decoding it is expected to take, ns; 0 if that is not known."""
        if self.flags & _UNCERTAIN:
            return 0
        parts = len(self.syndrome) * self.regions
        return self.stream.cost.expect(self.events // parts) * parts

    def is_too_long(self, cap: int) -> bool:
        """Whether it is dense, and would take longer than `cap` ns; see `qdec.commit.dense`."""
        n, width = self.syndrome.shape
        if not is_dense(self.events, n * width):
            return False
        parts = n * self.regions
        return bool(self.stream.cost.bound(self.events // parts) * parts > cap)

    def pass_over(self) -> None:
        """Have it answered without decoding."""
        self.decoder = NoCorrection(self.stream.answer_bytes)
        self.flags |= _UNCERTAIN


def run_jobs(jobs: Sequence[Job], max_batch: int) -> int:
    """Decode jobs, those with the same decoder together, and finish them.

    Args:
        jobs: of any streams.
        max_batch: windows per call of a decoder, unless one job has more: bounds how long one call
            may hold the thread.

    Returns:
        How many windows were decoded.
    """
    windows = 0
    for batch in _batches(jobs, max_batch):
        syndromes = batch[0].syndrome
        if len(batch) > 1:
            syndromes = np.concatenate([job.syndrome for job in batch])
        started = time.monotonic_ns()
        answers = _decode(batch[0], syndromes)
        took = time.monotonic_ns() - started
        each = took // len(syndromes)
        windows += len(syndromes)
        at = 0
        for job in batch:
            n = len(job.syndrome)
            job.took = took
            if not job.flags & _UNCERTAIN:
                job.stream.cost.learn(job.events // (n * job.regions), each // job.regions)
            if n == len(syndromes):
                job.stream.finish(job, answers)
                break
            job.stream.finish(job, answers.part(at, at + n))
            at += n
    return windows


def count_events(syndrome: Bytes) -> int:
    """Ones among packed bits. (Python's integers count them faster than NumPy can be called.)"""
    return int.from_bytes(syndrome.tobytes(), "little").bit_count()


def _batches(jobs: Sequence[Job], max_batch: int) -> list[Sequence[Job]]:
    """Jobs with the same decoder, of at most `max_batch` windows where they are several."""
    if len(jobs) == 1:
        return [jobs]
    by_decoder: dict[int, list[Job]] = {}
    for job in jobs:
        by_decoder.setdefault(id(job.decoder), []).append(job)
    batches: list[Sequence[Job]] = []
    for group in by_decoder.values():
        batch: list[Job] = []
        room = max_batch
        for job in group:
            n = len(job.syndrome)
            if batch and n > room:
                batches.append(batch)
                batch, room = [], max_batch
            batch.append(job)
            room -= n
        batches.append(batch)
    return batches


def _decode(job: Job, syndromes: Bytes) -> Answers:
    """Decode windows of one kind. What a decoder cannot answer is infeasible, not a dead lane."""
    try:
        return job.decoder.decode(syndromes)
    except Exception:
        n = len(syndromes)
        log.exception("a decoder failed on %d windows: they are answered as infeasible", n)
        width = job.stream.answer_bytes
        return Answers(np.zeros((n, width), dtype=np.uint8), np.zeros(n, dtype=np.bool_))
