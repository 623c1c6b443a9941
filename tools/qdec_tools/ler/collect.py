"""Which blocks are still wanted, and the processes that make them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from qdec.errors import DataError
from qdec.match import Tier
from qdec_tools.ler.blocks import BLOCK_SHOTS, Block, BlockStore
from qdec_tools.ler.points import Point
from qdec_tools.ler.work import Job, block_key, run_job, start_worker, try_out

# Blocks in the hands of each process, the one it works on among them.
_AHEAD = 2
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A measurement.

    Attributes:
        points: what to measure.
        tiers: what decodes the shots of each point.
        shots: per point.
        until_failures: a point ends early when every tier has failed so often; 0: never.
        seed: of all shots.
        processes: how many work.
    """

    points: tuple[Point, ...]
    tiers: tuple[Tier, ...]
    shots: int
    until_failures: int = 0
    seed: int = 0
    processes: int = 1


class PointRun:
    """One point's blocks: which there are, which are wanted next. Knows nothing of processes.

    The blocks that count are the first ones without a hole, up to the one with which every tier
    has failed often enough: what else was under way then is kept for later, and not counted, so
    that the result does not depend on who was quicker.
    """

    def __init__(self, point: Point, plan: Plan, store: BlockStore) -> None:
        """Begin with what the store has."""
        self.point = point
        self._plan = plan
        self._store = store
        self._next = 0
        self._counted: list[dict[Tier, Block]] = []
        self._failures = dict.fromkeys(plan.tiers, 0)
        self._advance()

    @property
    def blocks(self) -> list[dict[Tier, Block]]:
        """The blocks that count, each by tier."""
        return self._counted

    @property
    def finished(self) -> bool:
        """Whether nothing more is wanted."""
        enough = self._plan.until_failures
        if enough and all(n >= enough for n in self._failures.values()):
            return True
        return len(self._counted) == self.total

    @property
    def share(self) -> float:
        """How much of what may be wanted is done, 0 to 1."""
        return 1.0 if self.finished else len(self._counted) / self.total

    def jobs(self) -> Iterator[Job]:
        """What is to be made, in order, as long as it is wanted; look again between two."""
        while not self.finished and self._next < self.total:
            block, self._next = self._next, self._next + 1
            missing = tuple(t for t in self._plan.tiers if self._find(t, block) is None)
            if missing:
                yield Job(self.point, missing, self._plan.seed, block, self._shots(block))

    def made(self) -> None:
        """There is more in the store."""
        self._advance()

    @property
    def total(self) -> int:
        """Blocks that the plan asks for."""
        return -(-self._plan.shots // BLOCK_SHOTS)

    def _shots(self, block: int) -> int:
        return min(BLOCK_SHOTS, self._plan.shots - block * BLOCK_SHOTS)

    def _find(self, tier: Tier, block: int) -> Block | None:
        key = block_key(self.point, tier, self._plan.seed, block)
        return self._store.find(key, self._shots(block))

    def _advance(self) -> None:
        while not self.finished:
            number = len(self._counted)
            found = {tier: self._find(tier, number) for tier in self._plan.tiers}
            whole = {tier: block for tier, block in found.items() if block is not None}
            if len(whole) < len(found):
                return
            self._counted.append(whole)
            for tier, block in whole.items():
                self._failures[tier] += len(block.failed)


def collect(plan: Plan, store: BlockStore, progress: Progress | None = None) -> list[PointRun]:
    """Make what the store does not have yet, and keep it there.

    Args:
        plan: what is wanted.
        store: what is finished, and where to put the rest.
        progress: called with the share that is done and the point that is worked on.

    Returns:
        One finished `PointRun` per point of the plan.

    Raises:
        QdecError: a tier is not available, or cannot decode a point in its windows.
        DataError: a worker died, or the store cannot be written.
    """
    runs = [PointRun(point, plan, store) for point in plan.points]
    open_runs = [run for run in runs if not run.finished]
    if not open_runs:
        return runs
    try_out(open_runs[0].point, plan.tiers)
    by_point = {run.point: run for run in runs}
    costs = {run.point: _cost(run.point) for run in open_runs}
    total = sum(costs.values())

    def take(job: Job, blocks: list[Block]) -> None:
        store.add(blocks)
        by_point[job.point].made()
        if progress is not None:
            done = sum(costs[run.point] * run.share for run in open_runs)
            progress(done / total, str(job.point))

    jobs = (job for run in open_runs for job in run.jobs())
    processes = min(plan.processes, sum(run.total for run in open_runs))
    if processes == 1:
        for job in jobs:
            take(job, run_job(job))
    else:
        _in_processes(processes, jobs, take)
    return runs


def _in_processes(
    processes: int, jobs: Iterator[Job], take: Callable[[Job, list[Block]], None]
) -> None:
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(os.getpid(),),
    )
    waiting: dict[Future[list[Block]], Job] = {}
    try:
        while True:
            while len(waiting) < _AHEAD * processes and (job := next(jobs, None)) is not None:
                waiting[pool.submit(run_job, job)] = job
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                take(waiting.pop(future), future.result())
    except BrokenProcessPool:
        raise DataError(
            "a worker process died (out of memory?): finished blocks are saved where --save says; "
            "try fewer --processes"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _cost(point: Point) -> float:
    """What a point's shots cost, roughly: a progress bar needs no more."""
    return float(point.rounds * point.distance**2)
