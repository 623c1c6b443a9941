"""The objectives of a stream in its lane: what is counted at each commit, and judged each second.

The loop only compares and counts (`Watchdog.judge`). Burn rates are worked out from the counters
once a second, and lie beside them in the arena.
"""

from __future__ import annotations

import numpy as np

from qdec.commit import Committed, CommittedShots
from qdec.lane.burn import BurnRates, Totals
from qdec.lane.degraded import Degradation, Verdict
from qdec.lane.stats import StreamStats
from qdec.slo import Slo


class Watchdog:
    """Watches one stream; it outlives the stream's sessions, so that resuming hides nothing."""

    def __init__(self, slo: Slo, deadline_ns: int, tally: StreamStats) -> None:
        """Count in `tally`, from what it says already."""
        self.tally = tally
        self.degradation = Degradation(slo)
        self._rates = BurnRates()
        self.adopt(slo, deadline_ns)

    def adopt(self, slo: Slo, deadline_ns: int) -> None:
        """Go by these objectives from now on."""
        self._slow = deadline_ns // 2 if slo.latency_us is None else slo.latency_us * 1000
        self._sure = slo.min_confidence
        self._budgets = slo.budgets
        self.degradation.adopt(slo)

    def judge(self, commit: Committed | CommittedShots, latency: int, windows: int) -> None:
        """Count what is not as it should be of a commit of so many windows; latency in ns."""
        if latency > self._slow:
            self.tally.slow += windows
        if isinstance(commit, Committed):
            if commit.confidence < self._sure:  # which what is not known (NaN) is not
                self.tally.unsure += 1
        elif commit.confidence is not None:
            self.tally.unsure += int(np.count_nonzero(commit.confidence < self._sure))

    def step(self, now: int) -> Verdict | None:
        """Work out burn rates, and whether the controller should be told something."""
        totals = Totals(*self.tally.answers_and_violations)
        self._rates.step(now, totals)
        self.tally.show_burn(self._rates.of(self._budgets))
        return self.degradation.step(now, totals, self._rates)
