"""What decoding a window is going to take, from what windows before it took."""

from __future__ import annotations


class CostModel:
    """What a window will take, from how many detection events it has: ns, learned as it goes.

    Matching takes time that grows faster than the number of events: a half-dense syndrome, with 9
    times the events of a typical one at d=13, p=.003, takes some 45 times as long, so the exponent
    is ln 45 / ln 9.4.
    """

    _EXPONENT = 1.7
    # Of a half-dense window at d=13, each event takes 2 µs.
    _NS_PER_EVENT = 2000

    def __init__(self) -> None:
        """Nothing is known."""
        self._ns = 0.0
        self._events = 0.0

    @property
    def typical(self) -> int:
        """Time of a window with no more events than most, ns; 0 before the first was seen."""
        return int(self._ns)

    def learn(self, events: int, ns: int) -> None:
        """A window with so many events took so long: quick to rise, slow to fall."""
        if not self._ns:
            self._ns, self._events = float(ns), float(events)
            return
        typical = ns if events <= self._events else ns / self._growth(events)
        self._events += (min(events, 2 * self._events + 1) - self._events) / 16
        self._ns += (typical - self._ns) / (2 if typical > self._ns else 16)

    def expect(self, events: int) -> int:
        """Expected time of a window, ns; 0 before the first was seen."""
        if events <= self._events:
            return int(self._ns)
        return int(self._ns * self._growth(events))

    def bound(self, events: int) -> int:
        """Likewise, where it is better to be wrong than not to know: never 0, but for no events."""
        return self.expect(events) or events * self._NS_PER_EVENT

    def _growth(self, events: int) -> float:
        return float((events / max(1.0, self._events)) ** self._EXPONENT)
