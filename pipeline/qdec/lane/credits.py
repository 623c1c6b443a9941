"""How many rounds a stream may have in flight: as many as are answered in time.

Whatever waits in a lane is late by as long as what is before it takes. So credit follows what is
seen, as a congestion window does (Jacobson, SIGCOMM 1988; not kept unless it is used: RFC 7661).
What a client would send under overload then waits with the client, which can do something about
it, and what the lane has accepted is still in time.
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
        self._retained = self._grow_at = self._shrink_at = first_round
        self._peak = self._worst = 0

    def answered(self, received: int, retain_from: int, worst_ns: int, deadline_ns: int) -> None:
        """Windows have been answered.

        Args:
            received: one past the newest round that has come.
            retain_from: the first round that is still in flight.
            worst_ns: the longest that any of them was in the lane.
            deadline_ns: how long it may be.
        """
        self._peak = max(self._peak, received - self._retained)
        self._worst = max(self._worst, worst_ns)
        self._retained = retain_from
        if 4 * worst_ns > 3 * deadline_ns:
            # Once for each flight: what was in flight before is late whatever happens now.
            if retain_from >= self._shrink_at:
                share = min(0.75, max(0.125, deadline_ns / (2 * worst_ns)))
                self._rounds = max(self._least, int(min(self._rounds, self._peak) * share))
                self._shrink_at = received
                self._next_flight(received)
        elif retain_from >= self._grow_at:
            if 2 * self._worst <= deadline_ns and 2 * self._peak > self._rounds:
                self._rounds = min(self._most, self._rounds + max(1, self._rounds // 4))
            elif 4 * self._peak < self._rounds > self._kept:
                self._rounds = max(self._kept, self._rounds * 7 // 8)
            self._next_flight(received)
        self.until = max(self.until, retain_from + self._rounds)

    def _next_flight(self, received: int) -> None:
        self._grow_at = received
        self._peak = self._worst = 0
