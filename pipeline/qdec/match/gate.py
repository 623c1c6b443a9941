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

from qdec.codes import Code
from qdec.errors import CodeError
from qdec.match.faults import Faults
from qdec.match.tier import RecordDecoder

Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]
MAX_WEIGHT = 4
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
    """

    tier: str
    weight: int
    tried: int
    failed: int
    sampled: bool
    first_failure: tuple[str, ...]

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
        seed: of the random choice.
        progress: called with (shots done, shots to do).

    Raises:
        ValueError: `weight` is out of range.
        CodeError: the code has more sets of faults than can be numbered.
        QdecError: what the decoder raises.
    """
    if not 1 <= weight <= MAX_WEIGHT:
        raise ValueError(f"weight {weight}: the gate tries 1 to {MAX_WEIGHT} faults per shot")
    faults = Faults(code)
    sets = _Sets(len(faults), weight)
    choice = _Choice(sets.total, limit, seed)
    chunk = min(_CHUNK_SHOTS, max(1, _CHUNK_BYTES // faults.shot_bytes))
    failed = 0
    first_failure: tuple[str, ...] = ()
    for start in range(0, choice.count, chunk):
        end = min(choice.count, start + chunk)
        members = sets.members(choice.take(start, end))
        records, truth = faults.records(members[0]), faults.frames(members[0])
        for member in members[1:]:
            records ^= faults.records(member)
            truth ^= faults.frames(member)
        frames, feasible = decoder.decode(records)
        wrong = np.flatnonzero((frames != truth).any(axis=1) | ~feasible)
        if len(wrong) and not failed:
            first_failure = tuple(faults.text(int(member[wrong[0]])) for member in members)
        failed += len(wrong)
        if progress is not None:
            progress(end, choice.count)
    return GateReport(name, weight, choice.count, failed, choice.sampled, first_failure)


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
