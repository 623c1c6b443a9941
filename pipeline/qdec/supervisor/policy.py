"""Who should be running: a pure state machine over a table of processes.

Events come in (`warmed`, `serving`, `beat`, `exited`); `decide` says what to do now. A child warms
up first (imports, compiled codes) and only then gets a post, so a spare child takes a dead one's
place in milliseconds.

What children are warm with may become out of date (`supersede`). Then nobody leaves before a
successor is warm; who is succeeded stands by for a while, and gets its post back if the successor
dies in that time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 10.0
# Imports and compiled codes; a child that needs longer hangs.
WARM_UP_S = 600.0
# A child that lived this long did not die of its own start.
_HEALTHY_S = 30.0
# How long a successor is on probation.
PROBATION_S = 10.0


@dataclass(frozen=True, slots=True)
class Role:
    """One line of the table of processes.

    Attributes:
        name: what it is.
        module: what its processes run.
        posts: places to fill, counted from 0.
        spares: warm children beyond them.
        vital: the service is not ready without it; who dies at a post is replaced at once, since
            streams wait for it. Others wait out a back-off until one has lived for a while.
        trusted: is given secrets.
        writes: writes in the arena, and has its doorbells; others may only read there.
        nice: how far its processes stand back where processors are few.
        last: drains when all others are gone.
        alone: a post's next process serves only when the last one is gone for good.
        awaited: the service is not announced before one has served or failed: what cannot be
            served with this configuration is then said at the start.
        first: where it and others are out of date, it is succeeded before them, unless its
            successors come to nothing.
    """

    name: str
    module: str
    posts: int = 1
    spares: int = 0
    vital: bool = False
    trusted: bool = False
    writes: bool = False
    nice: int = 0
    last: bool = False
    alone: bool = False
    awaited: bool = False
    first: bool = False


class Stage(Enum):
    """Life of a child."""

    WARMING = "warming"
    SPARE = "spare"
    STARTING = "starting"
    SERVING = "serving"
    STANDBY = "standby"
    DRAINING = "draining"


@dataclass(slots=True)
class Child:
    """What is known about one child process.

    Attributes:
        post: where it serves, or is about to; of one that stands by, where it has served.
        since: when its stage began.
        edition: of what it is warm with; newer ones have larger numbers.
    """

    id: int
    role: Role
    born: float
    stage: Stage = Stage.WARMING
    post: int | None = None
    last_beat: float = 0.0
    since: float = 0.0
    edition: int = 0

    @property
    def holds(self) -> int | None:
        """The post that it serves at, or is about to."""
        return self.post if self.stage in (Stage.STARTING, Stage.SERVING) else None


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a child that warms up."""

    role: Role


@dataclass(frozen=True, slots=True)
class Assign:
    """Have a warm child serve at a post.

    Attributes:
        again: it stood by, and the one that succeeded it has died.
    """

    child: int
    post: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """A child does not answer any more."""

    child: int
    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Have a child answer what it accepted and exit."""

    child: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """Have a child send its clients to its successor, and stand by."""

    child: int


Action = Spawn | Assign | Kill | Drain | HandOver


@dataclass(slots=True)
class _Backoff:
    """How long to wait before the next child of a role, after some that came to nothing."""

    wait_s: float = 0.0
    until: float = 0.0

    def longer(self, now: float) -> None:
        self.wait_s = min(_BACKOFF_MAX_S, max(_BACKOFF_FIRST_S, 2 * self.wait_s))
        self.until = now + self.wait_s


class Policy:
    """Keeps the posts of every role served, and its spares warm.

    Attributes:
        table: the roles, by distinct names; replace it to change what should run.
        restarts: children that died while serving and were not asked to, by (role, post).
        edition: of what the children that are spawned now get warm with.
        failures: children of this edition that died before they served, since one last did.
    """

    def __init__(self, table: Sequence[Role], stall_s: float, drain_s: float = 10.0) -> None:
        """Nothing runs yet; see `adopt`."""
        self.adopt(table, stall_s, drain_s)
        self.restarts: Counter[tuple[str, int]] = Counter()
        self._children: dict[int, Child] = {}
        self._next_id = 1
        self._backoffs: dict[str, _Backoff] = {}
        self._tried: set[str] = set()
        self._stopping = False
        self.edition = 0
        self.failures = 0
        self._outdated: set[tuple[str, int]] = set()

    def adopt(self, table: Sequence[Role], stall_s: float, drain_s: float) -> None:
        """Go by these from now on.

        Args:
            table: the roles, by distinct names.
            stall_s: silence after which a child is given up.
            drain_s: time that a child has to drain.
        """
        self.table = tuple(table)
        self._stall_s = stall_s
        self._drain_s = drain_s

    @property
    def children(self) -> tuple[Child, ...]:
        """Everything that runs."""
        return tuple(self._children.values())

    def child(self, id_: int) -> Child:
        """One of `children`."""
        return self._children[id_]

    def served(self, role: str) -> set[int]:
        """Posts of a role at which a child serves."""
        return {
            child.post
            for child in self._children.values()
            if child.role.name == role and child.stage is Stage.SERVING and child.post is not None
        }

    @property
    def ready(self) -> bool:
        """Every post of the vital roles is served."""
        return all(
            self.served(role.name) >= set(range(role.posts)) for role in self.table if role.vital
        )

    @property
    def started(self) -> bool:
        """Ready, and what is worth waiting for at the start has served, or died trying."""
        return self.ready and all(
            role.name in self._tried for role in self.table if role.awaited and role.posts
        )

    @property
    def stopped(self) -> bool:
        """Stopping was asked for, and nothing runs any more."""
        return self._stopping and not self._children

    def spawned(self, role: Role, now: float) -> int:
        """A `Spawn` was carried out; the new child's id."""
        child = Child(self._next_id, role, now, since=now, last_beat=now, edition=self.edition)
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
        """A child has bound its post's endpoints."""
        one = self._children[child]
        if one.stage is Stage.STARTING:
            one.stage, one.since = Stage.SERVING, now
            if one.edition == self.edition:
                self.failures = 0
        self._tried.add(one.role.name)
        one.last_beat = now

    def beat(self, child: int, now: float) -> None:
        """A child's loop has turned."""
        self._children[child].last_beat = now

    def exited(self, child: int, now: float) -> None:
        """A child is gone."""
        one = self._children.pop(child, None)
        if one is not None:
            self._tried.add(one.role.name)
        if one is None or self._stopping or one.stage in (Stage.DRAINING, Stage.STANDBY):
            return
        served = one.stage is Stage.SERVING
        changing = any(name == one.role.name for name, _ in self._outdated) or one.post is not None
        if changing and not served and self.edition == one.edition:
            self.failures += 1
        if one.post is not None and one.edition == self.edition:
            # Who has the post now, or gets it, may be out of date.
            self._outdated.add((one.role.name, one.post))
        if served and one.post is not None:
            self.restarts[one.role.name, one.post] += 1
        warm = one.stage is Stage.SPARE  # whatever it died of, a start it was not
        if warm or (served and now - one.born >= _HEALTHY_S):
            self._backoff(one.role).wait_s = 0.0
        elif not (served and one.role.vital):
            # Starting another at once would spin.
            self._backoff(one.role).longer(now)

    def _backoff(self, role: Role) -> _Backoff:
        return self._backoffs.setdefault(role.name, _Backoff())

    def retire(self, role: str, post: int, now: float) -> list[int]:
        """A post's configuration changed or is gone: its child drains, another takes over.

        Returns:
            The children to tell.
        """
        at_post = (Stage.STARTING, Stage.SERVING, Stage.STANDBY)
        return self._drain(
            now, lambda c: c.role.name == role and c.post == post and c.stage in at_post
        )

    def supersede(self, posts: Iterable[tuple[str, int]]) -> None:
        """What children are warm with is out of date: others get warm with the new.

        Args:
            posts: (role, post) whose children are to be succeeded. Others' stay where they are.
        """
        self.edition += 1
        self.failures = 0
        self._outdated = set(posts)

    def restore(self, posts: Iterable[tuple[str, int]]) -> None:
        """The last `supersede` is taken back: spares of before it are up to date again.

        Args:
            posts: (role, post) whose children are to be succeeded.
        """
        before = self.edition - 1
        self.supersede(posts)
        for child in self._children.values():
            if child.stage is Stage.SPARE and child.edition == before:
                child.edition = self.edition

    @property
    def succeeding(self) -> frozenset[tuple[str, int]]:
        """(role, post) of those whose successors do not serve yet."""
        return frozenset(self._outdated)

    def retire_spares(self, role: str, now: float) -> list[int]:
        """Spares are warm for a past configuration: others replace them. Returns whom to tell."""
        warm = (Stage.WARMING, Stage.SPARE)
        return self._drain(now, lambda c: c.role.name == role and c.stage in warm)

    def _drain(self, now: float, whom: Callable[[Child], bool]) -> list[int]:
        found = [child for child in self._children.values() if whom(child)]
        for child in found:
            child.stage, child.post, child.since = Stage.DRAINING, None, now
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
        for role in self.table:
            actions.extend(self._fill(role, now))
        return actions

    def _fill(self, role: Role, now: float) -> list[Action]:
        """Give free posts to warm children, and start those that are missing."""
        actions: list[Action] = []
        mine = [c for c in self._children.values() if c.role.name == role.name]
        actions.extend(self._let_go(mine, now))
        probation = any(c.stage in (Stage.STARTING, Stage.STANDBY) for c in mine)
        taken = {c.holds for c in mine}
        free = [post for post in range(role.posts) if post not in taken]
        blocked = role.alone and any(c.stage is Stage.DRAINING for c in mine)
        for child in [] if blocked else self._candidates(mine):
            if child.stage is Stage.STANDBY and child.post in free:
                free.remove(child.post)
            elif child.stage is Stage.SPARE and free:
                child.post = free.pop(0)
            else:
                continue
            assert child.post is not None
            again = child.stage is Stage.STANDBY
            child.stage, child.last_beat, child.since = Stage.STARTING, now, now
            if again or child.edition == self.edition:
                self._outdated.discard((role.name, child.post))
            actions.append(Assign(child.id, child.post, again))
        actions.extend(self._succeed(role, mine, now))
        held = {(role.name, c.holds) for c in mine}
        waiting = len(self._outdated & held)
        free = [post for post in range(role.posts) if (role.name, post) not in held]
        coming = [c for c in mine if c.stage in (Stage.WARMING, Stage.SPARE)]
        fresh = [c for c in coming if c.edition == self.edition]
        if now >= self._backoff(role).until:
            more = len(free) + role.spares + min(1, waiting) - len(fresh)
            actions.extend(Spawn(role) for _ in range(more))
        # Spares that are out of date are better than none, and the best if a change is taken back.
        warm = [c for c in fresh if c.stage is Stage.SPARE]
        settled = not waiting and not probation and len(warm) >= role.spares
        for child in warm[role.spares :] if settled and not free else []:
            actions.extend(self._send_home(child, now))
        past = [c for c in coming if c.edition != self.edition]
        kept = [c for c in past if c.stage is Stage.SPARE][-role.spares :] if role.spares else []
        for child in past:
            if settled or child not in kept:
                actions.extend(self._send_home(child, now))
        return actions

    def _candidates(self, mine: list[Child]) -> list[Child]:
        """Who may take a free post: who stands by for it, then spares, those up to date first."""
        standby = [c for c in mine if c.stage is Stage.STANDBY]
        spares = [c for c in mine if c.stage is Stage.SPARE]
        return standby + sorted(spares, key=lambda c: c.edition != self.edition)

    def _let_go(self, mine: list[Child], now: float) -> list[Action]:
        """Have those whose successors serve stand by, and those who have for long enough go."""
        actions: list[Action] = []
        at_post = [c for c in mine if c.stage is Stage.SERVING]
        for new in at_post:
            for old in at_post:
                if old.post != new.post or old.edition >= new.edition:
                    continue
                for one in mine:
                    if one.stage is Stage.STANDBY and one.post == old.post:
                        actions.extend(self._send_home(one, now))
                old.stage, old.since, old.last_beat = Stage.STANDBY, now, now
                actions.append(HandOver(old.id))
        for one in mine:
            if one.stage is Stage.STANDBY and now - one.since >= PROBATION_S:
                actions.extend(self._send_home(one, now))
        return actions

    def _succeed(self, role: Role, mine: list[Child], now: float) -> list[Action]:
        """Give posts that are out of date to children that are warm with the new."""
        actions: list[Action] = []
        names = {name for name, _ in self._outdated} - {role.name}
        before = (r for r in self.table if r.first and r.name in names)
        if any(not self._backoff(r).wait_s for r in before):
            return []
        fresh = [c for c in mine if c.stage is Stage.SPARE and c.edition == self.edition]
        for old in [c for c in mine if c.stage is Stage.SERVING]:
            assert old.post is not None
            if not fresh or (role.name, old.post) not in self._outdated:
                continue
            if role.alone:  # its post is free once it is gone
                actions.extend(self._send_home(old, now))
                continue
            new = fresh.pop(0)
            self._outdated.discard((role.name, old.post))
            new.stage, new.post, new.last_beat, new.since = Stage.STARTING, old.post, now, now
            actions.append(Assign(new.id, old.post))
        return actions

    def _send_home(self, child: Child, now: float) -> list[Action]:
        child.stage, child.post, child.since = Stage.DRAINING, None, now
        return [Drain(child.id)]

    def _hangs(self, child: Child, now: float) -> str:
        """Why a child has to be given up, or an empty string."""
        if child.stage is Stage.WARMING:
            return "it does not get warm" if now - child.since > WARM_UP_S else ""
        if child.stage is Stage.DRAINING:
            slow = now - child.since > self._drain_s + 5
            return "it does not finish draining" if slow else ""
        stalled = now - child.last_beat > self._stall_s
        return f"its loop has not turned for {self._stall_s} s" if stalled else ""

    def _stop_actions(self) -> list[Action]:
        first = [child for child in self._children.values() if not child.role.last]
        whom = [c for c in first or self._children.values() if c.stage is not Stage.DRAINING]
        for child in whom:
            child.stage = Stage.DRAINING
        return [Drain(child.id) for child in whom]
