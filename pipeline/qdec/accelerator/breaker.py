"""When to stop asking an accelerator that does not answer, and when to ask again: a pure policy.

Closed, every window may be handed over. After some misses in a row it opens: none may, until a
probe is due. Probes come one at a time, later and later as long as they miss; it takes several in a
row that hit to close again, so that a device that limps does not flap.
"""

from __future__ import annotations

from dataclasses import dataclass

_FIRST_WAIT_NS = 5_000_000
_LONGEST_WAIT_NS = 1_000_000_000


@dataclass(slots=True)
class Breaker:
    """The state for one tier in one lane; times are ns of any one clock.

    Attributes:
        misses_to_open: in a row.
        hits_to_close: in a row.
    """

    misses_to_open: int = 5
    hits_to_close: int = 3
    _misses: int = 0
    _hits: int = 0
    _wait: int = 0
    _probe_at: int = 0
    _probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether only probes may pass."""
        return self._wait > 0

    def room(self, now: int) -> int | None:
        """How many windows may be handed over now; None for as many as there are."""
        if not self._wait:
            return None
        return 0 if self._probing or now < self._probe_at else 1

    def asked(self) -> None:
        """A window was handed over."""
        self._probing = self.is_open

    def withdrawn(self) -> None:
        """Whether a window would have been answered will not be known."""
        self._probing = False

    def hit(self, now: int) -> None:
        """A window was answered in time."""
        self._misses = 0
        if not self._wait:
            return
        self._probing = False
        self._hits += 1
        self._probe_at = now  # the next one at once
        if self._hits >= self.hits_to_close:
            self._wait = 0

    def miss(self, now: int) -> None:
        """A window was not answered in time."""
        self._misses += 1
        if self._wait and not self._probing:
            return  # handed over before it opened: that is known by now
        if self._wait or self._misses >= self.misses_to_open:
            self._open(now)

    def failed(self, now: int) -> None:
        """What came was no answer: one is enough."""
        self._open(now)

    def _open(self, now: int) -> None:
        self._wait = min(_LONGEST_WAIT_NS, 2 * self._wait or _FIRST_WAIT_NS)
        self._probe_at = now + self._wait
        self._hits = 0
        self._probing = False
