"""How many rounds a stream may have in flight: as many as are answered in time.

Whatever waits in a lane is late by as long as what is before it takes. So credit follows what is
seen, as a congestion window does (Jacobson, SIGCOMM 1988; not kept unless it is used: RFC 7661).
A queue that comes and goes is no harm: what counts is one that stands, so that in a whole flight
nothing was quick (Nichols and Jacobson, ACM Queue 10, 2012). What a client would send under
overload then waits with the client, which can do something about it, and what the lane has
accepted is still in time.
"""

from __future__ import annotations

# Rounds that a stream keeps credit for, whether it uses it or not.
_KEPT = 1024


class Allowance:
    """Credit of one stream.

    Attributes:
        until: rounds below this one may be sent; what was granted is never taken back.
    """

    def __init__(self, first_round: int, most: int, least: int) -> None:
        """Grant all that there is room for.

        Args:
            first_round: the first that will be sent.
            most: rounds that there is room for.
            least: rounds with which the stream goes on at all.
        """
        self.until = first_round + most
        self._most = most
        self._least = min(most, least)
        self._kept = max(self._least, min(most, _KEPT))
        self._rounds = most
        self._retained = self._flight_ends = first_round
        self._peak = 0
        self._best: int | None = None

    def answered(self, received: int, retain_from: int, worst_ns: int, deadline_ns: int) -> None:
        """Windows have been answered.

        Args:
            received: one past the newest round that has come.
            retain_from: the first round that is still in flight.
            worst_ns: the longest that any of them was in the lane.
            deadline_ns: how long it may be.
        """
        self._peak = max(self._peak, received - self._retained)
        self._best = worst_ns if self._best is None else min(self._best, worst_ns)
        self._retained = retain_from
        if retain_from >= self._flight_ends:
            self._adapt(self._best, deadline_ns)
            self._flight_ends, self._peak, self._best = received, 0, None
        self.until = max(self.until, retain_from + self._rounds)

    def _adapt(self, best_ns: int, deadline_ns: int) -> None:
        """All that was in flight at a time has been answered, the quickest of it in `best_ns`."""
        if 2 * best_ns > deadline_ns:
            share = min(0.75, max(0.125, deadline_ns / (3 * best_ns)))
            self._rounds = max(self._least, int(min(self._rounds, self._peak) * share))
        elif 3 * best_ns <= deadline_ns and 2 * self._peak > self._rounds:
            self._rounds = min(self._most, self._rounds + max(1, self._rounds // 4))
        elif 4 * self._peak < self._rounds > self._kept:
            self._rounds = max(self._kept, self._rounds * 7 // 8)
