"""Recorded streams of every kind: what a client would send, and how it may be cut into frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import stim

from helpers.circuits import memory, with_sweeps, without_reset
from helpers.lanes import Lane, Stream, same
from qdec.bits import Bytes, pack
from qdec.bus.wire import Credit
from qdec.codes import Code

_P = 0.008


@dataclass(frozen=True)
class Recording:
    """Rounds of some shots, with the request that opens a stream for them.

    Attributes:
        text: the circuit that goes along with OPEN.
        options: the other fields of OPEN.
        records: ``(n, record_bytes)`` uint8.
        ends: round at which each shot ends.
        tail: rounds before an end that must come in one frame.
    """

    text: str
    options: dict[str, Any]
    records: Bytes
    ends: tuple[int, ...]
    tail: int

    @property
    def code(self) -> tuple[bytes]:
        return (self.text.encode(),)

    def frames(self, first: int, cuts: list[int]) -> list[tuple[int, int, bool]]:
        """(first, end, last) of frames from `first` on, cut where asked as far as is allowed."""
        n = len(self.records)
        allowed = {
            at
            for at in (first + c % max(1, n - first) for c in cuts)
            if first < at < n and not any(e - self.tail < at < e for e in self.ends)
        }
        if self.options.get("endless"):
            allowed |= {e for e in self.ends if first < e < n}
        edges = [first, *sorted(allowed), n]
        endless = self.options.get("endless", False)
        return [(a, b, endless and b in self.ends) for a, b in itertools.pairwise(edges) if a < b]

    def open(self, lane: Lane, peer: bytes = b"peer", cursor: bytes = b"", **more: Any) -> Stream:
        options = {"code": "circuit", **self.options, **more}
        return Stream(lane, peer, self.code).open(cursor=cursor, **options)


def _detectors(circuit: stim.Circuit, shots: int, seed: int) -> Bytes:
    layout = Code.from_circuit(circuit).layout
    sampled = circuit.compile_detector_sampler(seed=seed).sample(shots, bit_packed=True)
    return layout.to_records(sampled).reshape(-1, layout.record_bytes)


def _measurements(circuit: stim.Circuit, shots: int, seed: int) -> Bytes:
    code = Code.from_circuit(circuit)
    assert code.measurements is not None
    sampled = circuit.compile_sampler(seed=seed).sample(shots, bit_packed=True)
    rng = np.random.default_rng(seed)
    sweeps = pack(rng.integers(0, 2, (shots, circuit.num_sweep_bits), dtype=np.uint8))
    records = code.measurements.to_records(sampled, sweeps)
    return records.reshape(-1, code.measurements.record_bytes)


Sample = Callable[[stim.Circuit, int, int], Bytes]


def _shots(circuit: stim.Circuit, sample: Sample, count: int, **options: Any) -> Recording:
    records = sample(circuit, count, 5)
    rounds = len(records) // count
    ends = tuple(range(rounds, len(records) + 1, rounds))
    return Recording(str(circuit), options, records, ends, 0)


def _stretched(
    circuit: stim.Circuit, longer: list[stim.Circuit], sample: Sample, tail: int, **options: Any
) -> Recording:
    """Shots of various lengths on an endless stream of one template."""
    parts = [sample(one, 1, i) for i, one in enumerate(longer)]
    ends = tuple(np.cumsum([len(p) for p in parts]).tolist())
    return Recording(str(circuit), {"endless": True, **options}, np.concatenate(parts), ends, tail)


def _plain(rounds: int) -> stim.Circuit:
    return memory(rounds=rounds, p=_P)


def _without_reset(rounds: int) -> stim.Circuit:
    return without_reset(memory(rounds=rounds, p=_P))


def _late_reading(rounds: int) -> stim.Circuit:
    """A repetition code, one of whose two ancillas enters detectors only a round after it is read.

    As in Floquet codes: a lost reading then matters to windows that begin behind it.
    """
    lines = ["R 0 1 2 3 4"]
    for r in range(rounds):
        lines += [f"X_ERROR({_P}) 0 1 2", "CX 0 3 1 4", "CX 1 3 2 4", f"MR({_P}) 4 3"]
        lines.append(f"DETECTOR(0, 0, {r}) rec[-1]" + (" rec[-3]" if r else ""))
        if r:
            lines.append(f"DETECTOR(1, 0, {r}) rec[-4]" + (" rec[-6]" if r > 1 else ""))
    lines += [
        f"M({_P}) 0 1 2",
        f"DETECTOR(0, 0, {rounds}) rec[-3] rec[-2] rec[-4]",
        f"DETECTOR(1, 0, {rounds}) rec[-5] rec[-7]",
        f"DETECTOR(2, 0, {rounds}) rec[-2] rec[-1] rec[-5]",
        "OBSERVABLE_INCLUDE(0) rec[-1]",
    ]
    return stim.Circuit("\n".join(lines))


def _quiet_tail(rounds: int) -> stim.Circuit:
    """A repetition code whose last two rounds are perfect: its tail is longer than its buffer."""
    lines = ["R 0 1 2 3 4"]
    for r in range(rounds):
        p = 0.1 if r < rounds - 2 else 0
        lines += [f"X_ERROR({p}) 0 1 2", "CX 0 3 1 4", "CX 1 3 2 4", f"MR({p}) 3 4"]
        for k in (2, 1):
            lines.append(f"DETECTOR({2 - k}, 0, {r}) rec[-{k}]" + (f" rec[-{k + 2}]" if r else ""))
    lines += [
        "M 0 1 2",
        f"DETECTOR(0, 0, {rounds}) rec[-3] rec[-2] rec[-5]",
        f"DETECTOR(1, 0, {rounds}) rec[-2] rec[-1] rec[-4]",
        "OBSERVABLE_INCLUDE(0) rec[-1]",
    ]
    return stim.Circuit("\n".join(lines))


_LENGTHS = (33, 7, 25)
_MAKERS: dict[str, Callable[[], Recording]] = {
    "shots, whole": lambda: _shots(_plain(6), _detectors, 9, windows="whole"),
    "shots, windows": lambda: _shots(_plain(20), _detectors, 3, windows="7,4"),
    "shots, correlated": lambda: _shots(
        _plain(20), _detectors, 3, windows="7,4", tier="correlated"
    ),
    "shots, whole, correlated": lambda: _shots(
        _plain(6), _detectors, 9, windows="whole", tier="correlated"
    ),
    "endless": lambda: _stretched(
        _plain(8), [_plain(n) for n in _LENGTHS], _detectors, 2, windows="6,3"
    ),
    "endless, correlated": lambda: _stretched(
        _plain(8),
        [_plain(n) for n in _LENGTHS],
        _detectors,
        2,
        windows="6,3",
        tier="correlated",
    ),
    "endless, raw": lambda: _stretched(
        _plain(8), [_plain(n) for n in _LENGTHS], _measurements, 2, windows="6,3", raw=True
    ),
    "endless, raw, no reset": lambda: _stretched(
        _without_reset(9),
        [_without_reset(n) for n in _LENGTHS],
        _measurements,
        3,
        windows="7,3",
        raw=True,
    ),
    "endless, quiet tail": lambda: _stretched(
        _quiet_tail(14), [_quiet_tail(n) for n in _LENGTHS], _detectors, 3, windows="3,2"
    ),
    "raw, no reset": lambda: _shots(_without_reset(20), _measurements, 3, windows="8,3", raw=True),
    "no reset, C=1": lambda: _shots(_without_reset(20), _detectors, 3, windows="6,1"),
    "raw, late reading": lambda: _shots(
        _late_reading(20), _measurements, 9, windows="7,3", raw=True
    ),
    "raw, whole": lambda: _shots(_plain(6), _measurements, 9, windows="whole", raw=True),
    "raw, sweep bits": lambda: _shots(
        with_sweeps(_plain(20)), _measurements, 3, windows="7,4", raw=True
    ),
    "raw, sweep bits, whole": lambda: _shots(
        with_sweeps(_plain(6)), _measurements, 5, windows="whole", raw=True
    ),
}
RECORDINGS = tuple(_MAKERS)


@cache
def recording(name: str) -> Recording:
    return _MAKERS[name]()


@cache
def answers(name: str) -> np.ndarray:
    """All commits of a recording, played without disturbance."""
    rec = recording(name)
    stream = rec.open(Lane())
    taken = []
    for first, end, last in rec.frames(0, []):
        assert stream.send(first, rec.records[first:end], last=last) is None
        taken.append(stream.collect())
    return np.concatenate(taken)


@contextmanager
def bystander(lane: Lane, name: str = "shots, windows") -> Iterator[None]:
    """A second client of a lane, whose commits must not change whatever happens meanwhile."""
    rec = recording(name)
    stream = rec.open(lane, b"bystander", stream="bystander")
    half = len(rec.records) // 2
    assert stream.send(0, rec.records[:half]) is None
    yield
    before = stream.collect()
    assert stream.send(half, rec.records[half:]) is None
    same(np.concatenate([before, stream.collect()]), answers(name))
    # It may have been asked whether it is alive, and is told nothing else.
    assert {type(message) for message in stream.others} <= {Credit}
