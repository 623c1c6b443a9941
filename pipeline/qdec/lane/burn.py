"""How fast a stream spends what its objectives allow: a pure policy over counters, fixed memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from qdec.slo import OBJECTIVES, WINDOWS

# Snapshots of the counters are kept at this distance; windows are that much longer at most.
_BUCKET_NS = 5_000_000_000
NO_BURN = ((0.0,) * len(WINDOWS),) * len(OBJECTIVES)


class Totals(NamedTuple):
    """Windows answered since the stream's first, and how many of them broke each objective."""

    windows: int
    broken: tuple[int, int, int, int]

    def since(self, before: Totals) -> Totals:
        """What has been counted since then."""
        a, b = self.broken, before.broken
        return Totals(
            self.windows - before.windows, (a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3])
        )


class BurnRates:
    """Burn rates over each of `qdec.slo.WINDOWS`; see there what they are.

    Attributes:
        spent: what was counted within each window, as of the last `step`.
    """

    def __init__(self) -> None:
        """Nothing was seen."""
        self._kept: list[deque[tuple[int, Totals]]] = [deque() for _ in WINDOWS]
        self._spans = [seconds * 1_000_000_000 for _, seconds in WINDOWS]
        nothing = Totals(0, (0, 0, 0, 0))
        self.spent = [nothing for _ in WINDOWS]

    def step(self, now: int, totals: Totals) -> None:
        """Look at the counters; call it often, and with times (ns) that do not fall."""
        for which, kept in enumerate(self._kept):
            if not kept or now - kept[-1][0] >= _BUCKET_NS:
                kept.append((now, totals))
            since = now - self._spans[which]
            while len(kept) > 1 and kept[1][0] <= since:
                kept.popleft()
            self.spent[which] = totals.since(kept[0][1])

    def of(self, budgets: Sequence[float]) -> list[tuple[float, ...]]:
        """Of each objective, its burn rate over each window."""
        return [
            tuple(burn(spent, one, budgets[one]) for spent in self.spent)
            for one in range(len(OBJECTIVES))
        ]


def burn(spent: Totals, objective: int, budget: float) -> float:
    """How many times faster than allowed an objective was broken; 0 where nothing was answered."""
    return spent.broken[objective] / spent.windows / budget if spent.windows else 0.0
