"""The fault-distance gate: does a decoder correct every fault that its code could correct?

A code of distance d corrects any (d - 1) / 2 faults, so a decoder that fails on one fault at d=3,
or on two at d=5, has given distance away, and at low noise it loses to one that has not, however
much better it does at high noise. Weighted matching is not immune: two unlikely faults may weigh
more than three likely ones.

A fault is one error instruction of the DEM with all its components; those that flip the same are
one. Its shot holds nothing else, and the frame decoded must be what it flips. Whatever decodes
records can be put through: a tier, or a rule that switches between tiers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.codes import Code
from qdec.errors import CodeError
from qdec.match.faults import Faults
from qdec.match.near import NearSets
from qdec.match.tier import RecordDecoder

Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]
MAX_WEIGHT = 4
NEAR_SETS = 50_000
_CHUNK_SHOTS = 8192
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class GateReport:
    """What the gate found.

    Attributes:
        tier: name of the tier, or rule, that was tried.
        weight: faults per shot.
        tried: shots.
        failed: shots whose frame was wrong, or that had no explanation.
        sampled: whether `tried` are a random choice of all there are.
        first_failure: the DEM instructions of the first shot that failed; empty if none did.
        near: whether the faults of a shot lie along a shortest logical error.
    """

    tier: str
    weight: int
    tried: int
    failed: int
    sampled: bool
    first_failure: tuple[str, ...]
    near: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.failed == 0


def try_faults(
    code: Code,
    decoder: RecordDecoder,
    weight: int = 1,
    *,
    name: str,
    limit: int | None = None,
    near: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> GateReport:
    """Try sets of distinct faults: all of them, or `limit` chosen at random if there are more.

    Args:
        code: a code of distance 2 `weight` + 1 or more.
        decoder: decodes whole shots of it.
        weight: faults per shot, from 1 to `MAX_WEIGHT`.
        name: of the decoder, for the report.
        limit: most shots to try.
        near: try sets of faults along shortest logical errors (see `NearSets`), which find lost
            distance where a choice among all sets seldom does; always a random choice, of
            `NEAR_SETS` if there is no limit.
        seed: of the random choice.
        progress: called with (shots done, shots to do).

    Raises:
        ValueError: `weight` is out of range.
        CodeError: the code has more sets of faults than can be numbered, or (with `near`) no
            logical error of so many edges.
        QdecError: what the decoder raises.
    """
    if not 1 <= weight <= MAX_WEIGHT:
        raise ValueError(f"weight {weight}: the gate tries 1 to {MAX_WEIGHT} faults per shot")
    source = _Near(code, weight, limit, seed) if near else _AnySets(code, weight, limit, seed)
    chunk = min(_CHUNK_SHOTS, max(1, _CHUNK_BYTES // source.shot_bytes))
    failed = 0
    first_failure: tuple[str, ...] = ()
    for start in range(0, source.count, chunk):
        end = min(source.count, start + chunk)
        sets = source.take(start, end)
        records, truth = source.shots(sets)
        frames, feasible = decoder.decode(records)
        wrong = np.flatnonzero((frames != truth).any(axis=1) | ~feasible)
        if len(wrong) and not failed:
            first_failure = tuple(source.text(int(fault)) for fault in sets[wrong[0]])
        failed += len(wrong)
        if progress is not None:
            progress(end, source.count)
    return GateReport(name, weight, source.count, failed, source.sampled, first_failure, near)


class _AnySets:
    """All sets of a code's faults, or one at random from each of `limit` strata."""

    def __init__(self, code: Code, weight: int, limit: int | None, seed: int) -> None:
        self._faults = Faults(code)
        self._sets = _Sets(len(self._faults), weight)
        self._choice = _Choice(self._sets.total, limit, seed)
        self.shot_bytes = self._faults.shot_bytes
        self.count, self.sampled = self._choice.count, self._choice.sampled
        self.text = self._faults.text

    def take(self, start: int, end: int) -> Ints:
        """``(n, weight)`` faults."""
        return np.stack(self._sets.members(self._choice.take(start, end)), axis=1)

    def shots(self, sets: Ints) -> tuple[Bytes, Bytes]:
        """Their records and frames."""
        first, *others = sets.T
        records, frames = self._faults.records(first), self._faults.frames(first)
        for other in others:
            records ^= self._faults.records(other)
            frames ^= self._faults.frames(other)
        return records, frames


class _Near:
    """A random choice of sets of faults along shortest logical errors."""

    def __init__(self, code: Code, weight: int, limit: int | None, seed: int) -> None:
        self._sets = NearSets(code, weight, seed)
        self.shot_bytes = code.layout.num_rounds * code.layout.record_bytes
        self.count = NEAR_SETS if limit is None else limit
        self.sampled = True
        self.text, self.shots = self._sets.text, self._sets.shots

    def take(self, start: int, end: int) -> Ints:
        """``(n, weight)`` faults."""
        return self._sets.draw(end - start)


class _Sets:
    """The sets of `weight` of `count` things, numbered from 0 as the combinatorial system does.

    The number of c_1 < c_2 < ... is the sum of binomials (c_1 over 1) + (c_2 over 2) + ....
    """

    def __init__(self, count: int, weight: int) -> None:
        self.total = comb(count, weight)
        if self.total >= 1 << 62:
            raise CodeError(
                f"{count:,} faults have too many sets of {weight}: try fewer faults per shot"
            )
        # _binomials[j][c] = (c over j + 1)
        self._binomials = [np.arange(count, dtype=np.int64)]
        while len(self._binomials) < weight:
            sums = np.cumsum(self._binomials[-1])
            self._binomials.append(np.concatenate([[0], sums[:-1]]))

    def members(self, number: Ints) -> list[Ints]:
        """The things in these sets: first the smallest of each, last the largest."""
        rest = number
        out: list[Ints] = []
        for binomials in reversed(self._binomials):
            largest = np.searchsorted(binomials, rest, side="right") - 1
            rest = rest - binomials[largest]
            out.insert(0, largest)
        return out


class _Choice:
    """Which of `total` combinations to try: all, or one at random from each of `limit` strata."""

    def __init__(self, total: int, limit: int | None, seed: int) -> None:
        self.sampled = limit is not None and total > limit
        self.count = limit if limit is not None and total > limit else total
        strata = self.count + 1 if self.sampled else 0
        self._strata = np.linspace(0, total, strata).astype(np.int64)
        self._rng = np.random.default_rng(seed)

    def take(self, start: int, end: int) -> Ints:
        if not self.sampled:
            return np.arange(start, end, dtype=np.int64)
        edges = self._strata[start : end + 1]
        return self._rng.integers(edges[:-1], edges[1:], dtype=np.int64)
