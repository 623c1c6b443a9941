"""The fault-distance gate: does a tier correct every fault that its code could correct?

A code of distance d corrects any (d - 1) / 2 faults, so a decoder that fails on one fault at d=3,
or on two at d=5, has given distance away, and at low noise it loses to one that has not, however
much better it does at high noise. Weighted matching is not immune: two unlikely faults may weigh
more than three likely ones.

A fault is one error instruction of the DEM with all its components; those that flip the same are
one. Its shot holds nothing else, and the frame decoded must be what it flips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.codes import Code
from qdec.match.faults import Faults
from qdec.match.offline import OfflineDecoder
from qdec.match.tier import Tier
from qdec.windows.geometry import WHOLE, Geometry

Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]
_CHUNK_SHOTS = 8192
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class GateReport:
    """What the gate found.

    Attributes:
        tier: the tier that was tried.
        weight: faults per shot, 1 or 2.
        tried: shots.
        failed: shots whose frame was wrong, or that had no explanation.
        sampled: whether `tried` are a random choice of all there are.
        first_failure: the DEM instructions of the first shot that failed; empty if none did.
    """

    tier: Tier
    weight: int
    tried: int
    failed: int
    sampled: bool
    first_failure: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.failed == 0


def single_faults(
    code: Code,
    tier: Tier,
    geometry: Geometry = WHOLE,
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    decoder: OfflineDecoder | None = None,
) -> GateReport:
    """Try single faults: all of them, or `limit` chosen at random if there are more.

    Args:
        code: a code of distance 3 or more.
        tier: the tier to try.
        geometry: windows to decode with; it must fit the code (see `choose_geometry`).
        limit: most shots to try.
        seed: of the random choice.
        progress: called with (shots done, shots to do).
        decoder: of this code, tier and geometry, if there is one that has compiled its windows.

    Raises:
        GeometryError: the geometry does not suit the code or tier.
    """
    faults = Faults(code)
    decoder = decoder or OfflineDecoder(code, tier, geometry)
    chosen = _Choice(len(faults), limit, seed)
    return _try(decoder, faults, chosen, 1, lambda k: (k,), progress)


def fault_pairs(
    code: Code,
    tier: Tier,
    geometry: Geometry = WHOLE,
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    decoder: OfflineDecoder | None = None,
) -> GateReport:
    """Try pairs of distinct faults, for a code of distance 5 or more; see `single_faults`."""
    faults = Faults(code)
    count = len(faults)
    total = count * (count - 1) // 2
    first = np.arange(count, dtype=np.int64)
    starts = first * count - first * (first + 1) // 2

    def pair(number: Ints) -> tuple[Ints, Ints]:
        i = np.searchsorted(starts, number, side="right") - 1
        return i, number - starts[i] + i + 1

    decoder = decoder or OfflineDecoder(code, tier, geometry)
    return _try(decoder, faults, _Choice(total, limit, seed), 2, pair, progress)


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


def _try(
    decoder: OfflineDecoder,
    faults: Faults,
    choice: _Choice,
    weight: int,
    members: Callable[[Ints], tuple[Ints, ...]],
    progress: Progress | None,
) -> GateReport:
    chunk = min(_CHUNK_SHOTS, max(1, _CHUNK_BYTES // faults.shot_bytes))
    failed = 0
    first_failure: tuple[str, ...] = ()
    for start in range(0, choice.count, chunk):
        end = min(choice.count, start + chunk)
        groups = members(choice.take(start, end))
        records, truth = faults.records(groups[0]), faults.frames(groups[0])
        for group in groups[1:]:
            records ^= faults.records(group)
            truth ^= faults.frames(group)
        frames, feasible = decoder.decode(records)
        wrong = np.flatnonzero((frames != truth).any(axis=1) | ~feasible)
        if len(wrong) and not failed:
            first_failure = tuple(faults.text(int(group[wrong[0]])) for group in groups)
        failed += len(wrong)
        if progress is not None:
            progress(end, choice.count)
    return GateReport(decoder.tier, weight, choice.count, failed, choice.sampled, first_failure)
