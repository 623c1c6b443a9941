"""What a lane has handed over to the accelerator, and when it stops waiting for it.

A window that is awaited can be answered by matching at any time; `urgent` says when that has come,
so that no deadline depends on another process. The lane hands over what is ready, decodes what is
urgent, and takes the commits of the streams that `collect` names.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from qdec.accelerator.breaker import Breaker
from qdec.accelerator.exchange import Reply, Status, most_windows
from qdec.accelerator.link import Link
from qdec.commit import Flag, Job
from qdec.lane.margin import Margin
from qdec.lane.schedule import NEVER, latest_start
from qdec.lane.session import Session
from qdec.lane.stats import DEADLINE, DOWN, REFUSED, SICK, UNFIT, LaneStats
from qdec.match import Tier

_FENCED = int(Flag.FENCED)
_COMPILED_FOR_IT = int(Flag.ERASURE)


@dataclass(slots=True)
class _Awaited:
    """A job handed over at `since`; when it should be answered, what matching would take: ns."""

    session: Session
    job: Job
    kind: int
    since: int
    until: int
    cost: int


class Offload:
    """A lane's windows that the accelerator has, and those that the lane must answer instead.

    Attributes:
        margin: how long before their deadlines windows should be answered.
        wake_at: when matching must begin for what is awaited, ns; `NEVER` if nothing is.
    """

    def __init__(self, link: Link | None, stats: LaneStats, margin_ns: int) -> None:
        """Hand windows over through a link; without one, the lane answers them all."""
        self.margin = Margin(margin_ns)
        self.wake_at = NEVER
        self._link = link
        self._stats = stats
        self._out: dict[int, _Awaited] = {}
        self._matched: list[int] = []
        self._owed: deque[tuple[Session, Job]] = deque()
        self._breakers: dict[Tier, Breaker] = {}
        self._unknown: set[int] = set()
        self._generation = 0

    @property
    def busy(self) -> bool:
        """Whether a window is awaited, or owed by the lane."""
        return bool(self._out or self._owed)

    def is_urgent(self, now: int) -> bool:
        """Whether the lane should decode something now."""
        return bool(self._owed) or now >= self.wake_at

    # -- over to the accelerator -----------------------------------------------------------------

    def room(self, tier: Tier, now: int) -> tuple[int, int]:
        """(How many windows may be handed over now, why no more: one of `REASONS`)."""
        link = self._link
        if link is None:
            return 0, DOWN
        if link.generation != self._generation:  # what was known of the last one is void
            self._generation = link.generation
            for tier in self._breakers:
                self._stats.breaker_words[tier] = 0
            self._breakers.clear()
            self._unknown.clear()
        most = self._breaker(tier).room(now)
        if most == 0 or not link.alive(now):
            return 0, DOWN
        return (link.free if most is None else min(most, link.free)), REFUSED

    def answered_here(self, session: Session, jobs: Sequence[Job], now: int) -> None:
        """Count windows of a stream that the lane answers because there is no room."""
        reason = self.room(session.terms.tier, now)[1]
        self._fell_back(session, reason, sum(len(job.syndrome) for job in jobs))

    def _fell_back(self, session: Session, reason: int, windows: int) -> None:
        self._stats.fell_back(reason, windows)
        session.tally.fallbacks += windows

    def hand_over(self, session: Session, job: Job, now: int) -> None:
        """Have a job of a stream decoded, there or (if that cannot be) here."""
        kind = self._kind(session, job)
        n, width = job.syndrome.shape
        each = job.stream.answer_bytes
        if kind is None or n > most_windows(width, each):
            self._owe(session, job, UNFIT)
            return
        too_long = job.is_too_long(session.cap_ns)  # for the lane, which then would not decode it
        deadline, cost = session.terms.deadline_ns, 0 if too_long else job.cost
        until = job.came.t_recv + deadline - self.margin.of(deadline)
        give_up = until - cost
        if give_up <= now:
            self._owe(session, job, DEADLINE)
            return
        assert self._link is not None
        slot = self._link.hand_over(kind, give_up, job.syndrome, each)
        if slot is None:
            self._owe(session, job, REFUSED)
            return
        self._breaker(session.terms.tier).asked()
        if not (cost or too_long):
            cost = _learn_cost(job)
        self._out[slot] = _Awaited(session, job, kind, now, until, cost)
        self._plan()

    def _kind(self, session: Session, job: Job) -> int | None:
        """What the accelerator calls a job's windows; None if it has not compiled them."""
        kinds = session.terms.kinds
        if not kinds or job.flags & _COMPILED_FOR_IT:
            return None
        kind = kinds.get(job.stream.key(job))
        return None if kind in self._unknown else kind

    def show(self) -> None:
        """Bring the gauges up to date."""
        for tier, breaker in self._breakers.items():
            self._stats.breaker_words[tier] = breaker.is_open

    def _breaker(self, tier: Tier) -> Breaker:
        found = self._breakers.get(tier)
        if found is None:
            found = self._breakers[tier] = Breaker()
        return found

    # -- and back --------------------------------------------------------------------------------

    def collect(self, now: int) -> list[Session]:
        """Take what has come back. Streams with new answers, once for each job answered."""
        if self._link is None or not self._link.out:
            return []
        collected = self._link.collect()
        self._stats.discarded += collected.late
        served = []
        for slot, reply in collected.replies:
            one = self._out.pop(slot)
            if self._settle(one, reply, now):
                served.append(one.session)
        for slot in collected.lost:
            one = self._out.pop(slot)
            self._waited(one, now)
            self._owe(one.session, one.job, DOWN)
        if collected.replies or collected.lost:
            self._plan()
        return served

    def _settle(self, one: _Awaited, reply: Reply | None, now: int) -> bool:
        """Take a reply: whether it answers the job."""
        job, breaker = one.job, self._breaker(one.session.terms.tier)
        self._waited(one, now)
        if reply is None or reply.status is Status.FAILED:
            breaker.failed(now)
            self._owe(one.session, job, SICK)
        elif reply.status is Status.UNKNOWN:
            breaker.withdrawn()
            self._unknown.add(one.kind)
            self._owe(one.session, job, UNFIT)
        elif reply.answers is None:
            breaker.miss(now)
            self._owe(one.session, job, DEADLINE)
        else:
            breaker.hit(now)
            n = len(job.syndrome)
            self._stats.queue.add(max(0, one.since - job.came.t_recv), n)
            self._stats.accelerator.add(now - one.since, n)
            job.tier, job.took = one.session.terms.tier, reply.took
            if reply.fenced:
                job.flags |= _FENCED
            job.stream.finish(job, reply.answers)
            return True
        return False

    def _waited(self, one: _Awaited, now: int) -> None:
        """Time in the accelerator is the service's: to wait for it is not to be preempted."""
        came = one.job.came
        one.job.came = came._replace(cpu_recv=came.cpu_recv - (now - one.since))

    def urgent(self, now: int, longest: int) -> list[tuple[Session, Job]]:
        """Windows to decode here and now, expected to take about `longest` ns together or less.

        What is awaited is given up when it is among them: a later answer is discarded.
        """
        found: list[tuple[Session, Job]] = []
        spent = 0
        while self._owed and (not found or spent + self._owed[0][1].cost <= longest):
            session, job = self._owed.popleft()
            if job.is_too_long(session.cap_ns):
                job.pass_over()
            found.append((session, job))
            spent += job.cost
        while now + spent >= self.wake_at:
            slot, one = min(self._out.items(), key=lambda item: item[1].until)
            if found and spent + one.cost > longest:
                break
            self._withdraw(slot)
            self._waited(one, now)
            self._breaker(one.session.terms.tier).miss(now)
            self._fell_back(one.session, DEADLINE, len(one.job.syndrome))
            self._matched.append(one.until)
            if one.job.is_too_long(one.session.cap_ns):
                one.job.pass_over()
            found.append((one.session, one.job))
            spent += one.cost
        return found

    def matched(self, now: int) -> None:
        """What was urgent has been decoded."""
        for until in self._matched:
            self.margin.learn(now - until)
        self._matched.clear()

    def forget(self, session: Session) -> None:
        """A stream is gone, and with it what it waits for."""
        for slot, one in list(self._out.items()):
            if one.session is session:
                self._withdraw(slot)
                self._breaker(one.session.terms.tier).withdrawn()
        self._owed = deque(one for one in self._owed if one[0] is not session)

    def _withdraw(self, slot: int) -> None:
        assert self._link is not None
        self._link.give_up(slot)
        del self._out[slot]
        self._plan()

    def _owe(self, session: Session, job: Job, reason: int) -> None:
        self._fell_back(session, reason, len(job.syndrome))
        self._owed.append((session, job))

    def _plan(self) -> None:
        if self._out:
            self.wake_at = latest_start((one.until, one.cost) for one in self._out.values())
        else:
            self.wake_at = NEVER


def _learn_cost(job: Job) -> int:
    """Decode a job for nothing but the time it takes, while the accelerator decodes it, too.

    Once for each stream: how long one may wait for the accelerator depends on it.
    """
    started = time.monotonic_ns()
    job.decoder.decode(job.syndrome)
    took = time.monotonic_ns() - started
    regions = len(job.syndrome) * job.regions
    job.stream.cost.learn(job.events // regions, took // regions)
    return took
