"""The objectives of a stream in its lane: what is counted at each commit, and judged each second.

The loop only compares and counts (`Watchdog.judge`). Burn rates are worked out from the counters
once a second, and lie beside them in the arena.
"""

from __future__ import annotations

import numpy as np

from qdec.commit import Committed, CommittedShots
from qdec.config import Config
from qdec.lane.burn import BurnRates, Totals
from qdec.lane.degraded import Degradation, Verdict
from qdec.lane.stats import Slot, StreamStats, tally_name
from qdec.slo import Slo


class Watchdog:
    """Watches one stream; it outlives the stream's sessions, so that resuming hides nothing.

    Attributes:
        tally: what is counted.
        deadline_ns: of the stream.
        degradation: whether its controller should pause.
        told_slow: the log says that its windows take longer than its lane's streams can wait.
    """

    def __init__(self, slo: Slo, deadline_ns: int, tally: StreamStats) -> None:
        """Count in `tally`, from what it says already."""
        self.tally = tally
        self.degradation = Degradation(slo)
        self.told_slow = False
        self._rates = BurnRates()
        self._slo: Slo | None = None
        self.deadline_ns = 0
        self.adopt(slo, deadline_ns)

    def adopt(self, slo: Slo, deadline_ns: int) -> None:
        """Go by these objectives from now on; where they are the same, nothing changes."""
        if (self._slo, self.deadline_ns) == (slo, deadline_ns):
            return
        self._slo, self.deadline_ns = slo, deadline_ns
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


class Watches:
    """The watchdogs of a lane's streams; those of configured streams stay."""

    def __init__(self, slot: Slot, config: Config) -> None:
        """Count in this slot what is counted for streams that the configuration names."""
        self._slot = slot
        self._named: dict[tuple[str, int], Watchdog] = {}
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Forget the streams that this configuration does not name; take the others' objectives."""
        self._slos = {one.name: one.slo for one in config.stream}
        for (stream, part), one in list(self._named.items()):
            slo = self._slos.get(stream)
            if slo is None:
                del self._named[stream, part]
            else:
                one.adopt(slo, one.deadline_ns)

    def of(self, stream: str, part: int, slo: Slo, deadline_ns: int) -> Watchdog:
        """The watchdog of a part of a stream that opens: one of its own if it is a guest's."""
        if stream not in self._slos:
            return Watchdog(slo, deadline_ns, StreamStats())
        found = self._named.get((stream, part))
        if found is None:
            tally = self._slot.stream(tally_name(stream, part))
            found = self._named[stream, part] = Watchdog(slo, deadline_ns, tally)
        found.adopt(slo, deadline_ns)
        return found
