"""Who should be running: a pure state machine over children and lanes.

Events come in (`warmed`, `serving`, `beat`, `exited`); `decide` says what to do now. A child warms
up first (imports, compiled codes) and only then gets a lane, so a spare child takes a dead lane's
place in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 10.0
# Imports and compiled codes; a child that needs longer hangs.
_WARM_UP_S = 600.0
# A child that lived this long did not die of its own start.
_HEALTHY_S = 30.0


class Stage(Enum):
    """Life of a child."""

    WARMING = "warming"
    SPARE = "spare"
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(slots=True)
class Child:
    """What is known about one child process; `since` is when its stage began."""

    id: int
    born: float
    stage: Stage = Stage.WARMING
    lane: int | None = None
    last_beat: float = 0.0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a child that warms up."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Have a warm child serve a lane."""

    child: int
    lane: int


@dataclass(frozen=True, slots=True)
class Kill:
    """A child does not answer any more."""

    child: int
    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Have a child answer what it accepted and exit."""

    child: int


Action = Spawn | Assign | Kill | Drain


class Policy:
    """Keeps `lanes` lanes served and `spares` children warm.

    Attributes:
        restarts: serving children that died and were not asked to.
    """

    def __init__(self, lanes: int, spares: int, stall_s: float, drain_s: float = 10.0) -> None:
        """Nothing runs yet; see `adopt`."""
        self.adopt(lanes, spares, stall_s, drain_s)
        self.restarts = 0
        self._children: dict[int, Child] = {}
        self._next_id = 1
        self._backoff_s = 0.0
        self._spawn_after = 0.0
        self._stopping = False

    def adopt(self, lanes: int, spares: int, stall_s: float, drain_s: float) -> None:
        """Go by these numbers from now on.

        Args:
            lanes: to keep served.
            spares: to keep warm.
            stall_s: silence after which a child is given up.
            drain_s: time that a child has to drain.
        """
        self.lanes = lanes
        self.spares = spares
        self._stall_s = stall_s
        self._drain_s = drain_s

    @property
    def children(self) -> tuple[Child, ...]:
        """Everything that runs."""
        return tuple(self._children.values())

    @property
    def ready(self) -> bool:
        """Every lane is served."""
        return {c.lane for c in self._children.values() if c.stage is Stage.SERVING} >= set(
            range(self.lanes)
        )

    @property
    def stopped(self) -> bool:
        """Stopping was asked for, and nothing runs any more."""
        return self._stopping and not self._children

    def spawned(self, now: float) -> int:
        """A `Spawn` was carried out; the new child's id."""
        child = Child(self._next_id, now, since=now, last_beat=now)
        self._next_id += 1
        self._children[child.id] = child
        return child.id

    def warmed(self, child: int, now: float) -> None:
        """A child has warmed up."""
        one = self._children[child]
        if one.stage is Stage.WARMING:
            one.stage = Stage.SPARE
        one.last_beat = one.since = now

    def serving(self, child: int, now: float) -> None:
        """A child has bound its lane's endpoints."""
        one = self._children[child]
        if one.stage is Stage.STARTING:
            one.stage = Stage.SERVING
        one.last_beat = now

    def beat(self, child: int, now: float) -> None:
        """A child's loop has turned."""
        self._children[child].last_beat = now

    def exited(self, child: int, now: float) -> None:
        """A child is gone."""
        one = self._children.pop(child, None)
        if one is None or self._stopping or one.stage is Stage.DRAINING:
            return
        if one.stage is Stage.SERVING:
            self.restarts += 1
        if one.stage is Stage.SERVING and now - one.born >= _HEALTHY_S:
            self._backoff_s = 0.0
        elif one.stage is not Stage.SERVING:
            # It never came to serve: starting another at once would spin.
            self._backoff_s = min(_BACKOFF_MAX_S, max(_BACKOFF_FIRST_S, 2 * self._backoff_s))
            self._spawn_after = now + self._backoff_s

    def retire(self, lane: int, now: float) -> list[int]:
        """A lane's configuration changed or is gone: its child drains, another takes over.

        Returns:
            The children to tell.
        """
        serving = (Stage.STARTING, Stage.SERVING)
        return self._drain(now, lambda c: c.lane == lane and c.stage in serving)

    def retire_spares(self, now: float) -> list[int]:
        """Spares are warm for codes of the past: others take their place. Returns whom to tell."""
        return self._drain(now, lambda c: c.stage in (Stage.WARMING, Stage.SPARE))

    def _drain(self, now: float, whom: Callable[[Child], bool]) -> list[int]:
        found = [child for child in self._children.values() if whom(child)]
        for child in found:
            child.stage, child.lane, child.since = Stage.DRAINING, None, now
        return [child.id for child in found]

    def stop(self) -> None:
        """Drain everything."""
        self._stopping = True

    def decide(self, now: float) -> list[Action]:
        """What to do now. Actions are assumed to be carried out."""
        if self._stopping:
            return self._stop_actions()
        actions: list[Action] = []
        for child in self._children.values():
            if reason := self._hangs(child, now):
                actions.append(Kill(child.id, reason))
                child.last_beat = child.since = now  # once is enough
        served = {c.lane for c in self._children.values() if c.lane is not None}
        unserved = [lane for lane in range(self.lanes) if lane not in served]
        for child in self._children.values():
            if unserved and child.stage is Stage.SPARE:
                child.stage, child.lane, child.last_beat = Stage.STARTING, unserved.pop(0), now
                actions.append(Assign(child.id, child.lane))
        coming = sum(c.stage in (Stage.WARMING, Stage.SPARE) for c in self._children.values())
        if now >= self._spawn_after:
            actions.extend(Spawn() for _ in range(len(unserved) + self.spares - coming))
        return actions

    def _hangs(self, child: Child, now: float) -> str:
        """Why a child has to be given up, or an empty string."""
        if child.stage is Stage.WARMING:
            return "it does not get warm" if now - child.since > _WARM_UP_S else ""
        if child.stage is Stage.DRAINING:
            slow = now - child.since > self._drain_s + 5
            return "it does not finish draining" if slow else ""
        stalled = now - child.last_beat > self._stall_s
        return f"its loop has not turned for {self._stall_s} s" if stalled else ""

    def _stop_actions(self) -> list[Action]:
        actions: list[Action] = []
        for child in self._children.values():
            if child.stage is not Stage.DRAINING:
                child.stage = Stage.DRAINING
                actions.append(Drain(child.id))
        return actions
