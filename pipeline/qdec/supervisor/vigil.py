"""When the supervisor may tell systemd that all is well, and which lane it should give up: pure.

A lane is *turning* while its beats come, and *answering* while the window that it should answer
next does not stay the same for long after it was due. Windows that are late, and move on, are not
this module's business: a lane past its capacity answers late but answers, and to replace it would
have its clients send everything again. An idle lane, one whose client is asked to pause, and one
that waits for missing rounds have no window that is due.

What happens, as a lane stands still or a window is stuck:

1. Half-way to being given up, systemd's watchdog is not told any more that all is well.
2. It is given up (`stall_s` for silence, by `qdec.supervisor.policy`; `overdue_s` for a window,
   here): the spare takes its place, clients resume, and the watchdog is told again. That is far
   quicker than what systemd could do, and leaves other lanes alone.
3. Where that has not helped `TRIES` times, it is not done any more. Then the watchdog runs out, and
   systemd starts all of the service anew. So it does where a lane's place cannot be filled for
   longer than a child may take to get warm, or where the supervisor itself stands still.

While a lane's place is being filled, all is as well as can be: systemd could only do the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qdec.supervisor.policy import WARM_UP_S

# How often a lane is given up for windows that stay unanswered, before it is left to systemd.
TRIES = 3
# After so long without, it is another story.
FORGIVEN_S = 600.0
# What was not looked at in time is not held against lanes: the supervisor stood still.
_GAP_S = 1.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a lane.

    Attributes:
        lane: its index.
        child: who serves it; None if nobody does.
        beat: when its loop last turned, in s of CLOCK_MONOTONIC.
        due: when the oldest window is due that it has not answered, likewise; None without one.
    """

    lane: int
    child: int | None
    beat: float = 0.0
    due: float | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Replace a lane's process, for this reason."""

    child: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows.

    Attributes:
        worry: what is wrong, in a few words; empty if systemd may be told that all is well.
        give_up: whom to replace.
    """

    worry: str = ""
    give_up: tuple[GiveUp, ...] = ()


@dataclass(slots=True)
class _Watched:
    """What is remembered of a lane; `since` is when its oldest window was first seen."""

    child: int | None
    since: float
    due: float | None = None
    tries: int = 0
    last_try: float = 0.0


class Vigil:
    """Watches over lanes."""

    def __init__(self, stall_s: float, overdue_s: float) -> None:
        """See `adopt`."""
        self.adopt(stall_s, overdue_s)
        self._lanes: dict[int, _Watched] = {}
        self._looked: float | None = None

    def adopt(self, stall_s: float, overdue_s: float) -> None:
        """Go by these from now on.

        Args:
            stall_s: silence after which a lane is given up, by the policy.
            overdue_s: for how long the same window may be unanswered after it was due.
        """
        self._stall_s = stall_s
        self._overdue_s = overdue_s

    def look(self, now: float, sights: Iterable[Sight]) -> Verdict:
        """Judge all lanes; called several times a second.

        Args:
            now: s of CLOCK_MONOTONIC.
            sights: one for each lane of the configuration.
        """
        gap = 0.0 if self._looked is None else max(0.0, now - self._looked - _GAP_S)
        self._looked = now
        worry, given_up = "", []
        seen = {}
        for sight in sights:
            one = seen[sight.lane] = self._remember(sight, now)
            one.since = min(now, one.since + gap)
            stuck = self._stuck(one, now)
            if stuck > self._overdue_s and one.tries < TRIES:
                one.tries, one.last_try = one.tries + 1, now
                one.since = now  # once is enough
                assert sight.child is not None
                reason = f"a window has not been answered {stuck:.1f} s after it was due"
                given_up.append(GiveUp(sight.child, reason))
            worry = worry or self._worry(sight, one, now)
        self._lanes = seen
        return Verdict(worry, tuple(given_up))

    def _remember(self, sight: Sight, now: float) -> _Watched:
        one = self._lanes.get(sight.lane) or _Watched(sight.child, now)
        if (one.child, one.due) != (sight.child, sight.due):
            one.child, one.due, one.since = sight.child, sight.due, now
        if one.tries and now - one.last_try > FORGIVEN_S:
            one.tries = 0
        return one

    @staticmethod
    def _stuck(one: _Watched, now: float) -> float:
        """For how long the same window has been due and unanswered, as far as we know."""
        if one.child is None or one.due is None:
            return 0.0
        return now - max(one.due, one.since)

    def _worry(self, sight: Sight, one: _Watched, now: float) -> str:
        """Why this lane is not well, or an empty string."""
        if sight.child is None:
            unfilled = now - one.since > WARM_UP_S
            return f"lane {sight.lane} cannot be served" if unfilled else ""
        if now - sight.beat > self._stall_s / 2:
            return f"lane {sight.lane} does not turn"
        if self._stuck(one, now) > self._overdue_s / 2:
            return f"lane {sight.lane} does not answer"
        return ""
