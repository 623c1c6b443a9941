"""Windows that are ready together, decoded together, across shots and streams."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qdec.bits import Bytes
from qdec.match import Answers, CompiledWindow
from qdec.windows.geometry import Window

if TYPE_CHECKING:
    from qdec.commit.stream import Mark, Shot, StreamDecoder

log = logging.getLogger("qdec.commit")


@dataclass(slots=True)
class Job:
    """One window ready to decode.

    Attributes:
        stream: the stream it belongs to.
        shot: the shot within it.
        window: its place in its shot.
        decoder: the compiled window; jobs with the same one are decoded together.
        syndrome: ``(rounds * record_bytes,)`` uint8, the seam already XORed in.
        flags: what is known before decoding, as bits of `qdec.commit.Flag`.
        came: when the window's last round came.
    """

    stream: StreamDecoder
    shot: Shot
    window: Window
    decoder: CompiledWindow
    syndrome: Bytes
    flags: int
    came: Mark


def run_jobs(jobs: Sequence[Job], max_batch: int) -> int:
    """Decode jobs, those with the same decoder together, and finish them.

    Args:
        jobs: of any streams.
        max_batch: windows per call of a decoder: bounds how long one call may hold the thread.

    Returns:
        How many were decoded.
    """
    for batch in _batches(jobs, max_batch):
        started = time.monotonic_ns()
        answers = _decode(batch)
        took = time.monotonic_ns() - started
        if len(batch) == 1:
            (job,) = batch
            job.stream.cost.learn(count_events(job.syndrome), took)
            job.stream.finish(job, answers.bits[0], bool(answers.feasible[0]))
            continue
        for job, bits, ok in zip(batch, answers.bits, answers.feasible.tolist(), strict=True):
            job.stream.cost.learn(count_events(job.syndrome), took // len(batch))
            job.stream.finish(job, bits, ok)
    return len(jobs)


def count_events(syndrome: Bytes) -> int:
    """Ones among packed bits. (Python's integers count them faster than NumPy can be called.)"""
    return int.from_bytes(syndrome.tobytes(), "little").bit_count()


def _batches(jobs: Sequence[Job], max_batch: int) -> list[Sequence[Job]]:
    """Jobs with the same decoder, at most `max_batch` of them, in order."""
    if len(jobs) == 1:
        return [jobs]
    by_decoder: dict[int, list[Job]] = {}
    for job in jobs:
        by_decoder.setdefault(id(job.decoder), []).append(job)
    return [
        group[start : start + max_batch]
        for group in by_decoder.values()
        for start in range(0, len(group), max_batch)
    ]


def _decode(batch: Sequence[Job]) -> Answers:
    """Decode windows of one kind. What a decoder cannot answer is infeasible, not a dead lane."""
    if len(batch) == 1:
        syndromes = batch[0].syndrome.reshape(1, -1)
    else:
        syndromes = np.stack([job.syndrome for job in batch])
    try:
        return batch[0].decoder.decode(syndromes)
    except Exception:
        log.exception("a decoder failed on %d windows: they are answered as infeasible", len(batch))
        width = batch[0].stream.answer_bytes
        return Answers(
            np.zeros((len(batch), width), dtype=np.uint8), np.zeros(len(batch), dtype=np.bool_)
        )
