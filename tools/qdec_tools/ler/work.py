"""One block of shots, sampled and decoded by every tier that still needs it."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version

import numpy as np

from qdec import __version__
from qdec.bits import Bytes
from qdec.codes import Code
from qdec.errors import ModelError
from qdec.lane.realtime import die_with_parent
from qdec.match import SOFT, Tier
from qdec.match.models import served
from qdec.match.offline import OfflineDecoder
from qdec.neural.store import load_model
from qdec.windows import choose_geometry, parse_geometry
from qdec_tools.ler.blocks import BLOCK_SHOTS, Block, BlockKey
from qdec_tools.ler.points import Point

# Shots per call of a decoder: enough to spread what a call costs, little enough for any cache.
BATCH = 1024
# Experiments that a worker keeps compiled; it is given one after the other.
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is asked for.

    Attributes:
        point: the experiment.
        tiers: the tiers that shall decode the same shots.
        seed, block: which shots.
        shots: how many of the block's.
    """

    point: Point
    tiers: tuple[Tier, ...]
    seed: int
    block: int
    shots: int


@lru_cache(maxsize=4096)
def circuit_digest(point: Point) -> str:
    """What identifies a point's circuit in a file of blocks."""
    return hashlib.sha256(str(point.circuit()).encode()).hexdigest()[:16]


@cache
def model_of(tier: Tier, name: str | None = None) -> str:
    """Identity of what a tier decodes with: answers of another identity are not mixed with its.

    Args:
        tier: which.
        name: of its network, if it is not the package's.

    Raises:
        ModelError: its network is missing or damaged.
    """
    pymatching = f"pymatching {version('pymatching')}"
    if tier in (Tier.MATCHING, Tier.CORRELATED):
        return pymatching
    qdec = f"qdec {__version__}, {pymatching}"
    if not tier.takes_model:
        return qdec
    if name is None and tier not in SOFT:
        raise ModelError(f"the {tier.label} tier needs a network: --model {tier.label}=NAME")
    return f"{load_model(name or tier.label).info.sha256}, {qdec}"


def block_key(point: Point, tier: Tier, seed: int, block: int) -> BlockKey:
    """Where a point's block is filed."""
    model = model_of(tier, point.model(tier))
    return BlockKey(circuit_digest(point), tier.label, model, point.windows, seed, block)


def run_job(job: Job) -> list[Block]:
    """Sample a block and decode it, a tier at a time.

    Raises:
        QdecError: the point's code cannot be decoded by a tier in these windows.
    """
    bench = _bench(job.point)
    dets, truth = bench.sample(job.seed, job.block)
    events = hashlib.sha256(dets.tobytes() + truth.tobytes()).hexdigest()[:16]
    records = bench.code.layout.to_records(dets[: job.shots])
    blocks = []
    for tier in job.tiers:
        failed, cpu_ns = bench.decode(tier, records, truth[: job.shots])
        block = Block(
            point=str(job.point),
            **block_key(job.point, tier, job.seed, job.block)._asdict(),
            shots=job.shots,
            events=events,
            failed=failed,
            cpu_ns=cpu_ns,
            batch=min(BATCH, job.shots),
        )
        blocks.append(block)
    return blocks


def try_out(point: Point, tiers: tuple[Tier, ...]) -> None:
    """Compile a point's decoders, to know before anything is measured that all of them can be had.

    Raises:
        QdecError: one of them cannot.
    """
    bench = _bench(point)
    layout = bench.code.layout
    nothing = np.zeros((1, layout.num_rounds, layout.record_bytes), dtype=np.uint8)
    for tier in tiers:
        bench.decoder(tier).decode(nothing)


def start_worker(parent: int) -> None:
    """Begin as a worker process: Ctrl-C is the parent's to handle, and we end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


class _Bench:
    """A point's circuit, code and decoders, compiled once."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._circuit = point.circuit()
        self.code = Code.from_circuit(self._circuit)
        self._geometry = choose_geometry(
            parse_geometry(point.windows), self.code, endless=False, distance=point.distance
        )
        self._decoders: dict[Tier, OfflineDecoder] = {}
        self._warm: set[Tier] = set()

    def sample(self, seed: int, block: int) -> tuple[Bytes, Bytes]:
        """A whole block, whatever part of it is wanted: a longer run finds the same shots."""
        words = hashlib.sha256(f"{seed}/{block}".encode()).digest()
        sampler = self._circuit.compile_detector_sampler(
            seed=int.from_bytes(words[:8], "little") >> 1
        )
        dets, truth = sampler.sample(BLOCK_SHOTS, separate_observables=True, bit_packed=True)
        return dets, truth

    def decoder(self, tier: Tier) -> OfflineDecoder:
        if tier not in self._decoders:
            name = self._point.model(tier)
            model = None if name is None else served(load_model(name))
            self._decoders[tier] = OfflineDecoder(self.code, tier, self._geometry, model=model)
        return self._decoders[tier]

    def decode(self, tier: Tier, records: Bytes, truth: Bytes) -> tuple[list[int], int]:
        """Shots that failed (wrong, or without an explanation), and the CPU time, warm, in ns."""
        decoder = self.decoder(tier)
        if tier not in self._warm:
            decoder.decode(records[:BATCH])
            self._warm.add(tier)
        failed: list[int] = []
        cpu_ns = 0
        for start in range(0, len(records), BATCH):
            batch = np.ascontiguousarray(records[start : start + BATCH])
            before = time.process_time_ns()
            frames, feasible = decoder.decode(batch)
            cpu_ns += time.process_time_ns() - before
            wrong = (frames != truth[start : start + BATCH]).any(axis=1) | ~feasible
            failed += (start + np.flatnonzero(wrong)).tolist()
        return failed, cpu_ns


@lru_cache(maxsize=_KEPT)
def _bench(point: Point) -> _Bench:
    return _Bench(point)


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))
