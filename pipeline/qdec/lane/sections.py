"""Which windows a lane decodes together next: the accelerator is given what it may have, what is
urgent comes first, then turns of streams, as many as nobody else has to pay for.

One *section* is a call of decoders that nothing interrupts. Policies are `qdec.lane.schedule`'s;
here they meet the streams.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from qdec.commit import Job
from qdec.lane.offload import Offload
from qdec.lane.schedule import (
    NEVER,
    Turn,
    Waiting,
    effective_due,
    latest_start,
    patience_of_others,
    plan,
)
from qdec.lane.session import Session

# Windows of one stream per section.
_MAX_READY = 256
# Longest section where no deadline is nearer. What is answered meanwhile leaves in one message.
_SECTION_NS = 1_000_000
# No deadline, however short, keeps the lane from decoding some windows together.
_SHORTEST_SECTION_NS = 200_000


class Sections:
    """The streams of a lane that have windows ready, and what is decoded of them next.

    Attributes:
        ready: by handle; streams that have nothing are taken off when that is seen.
        offload: what the accelerator has; None while no stream is for it.
        longest_ns: that a section may take.
        served: the streams of the last section, one for each of its jobs or turns.
    """

    def __init__(self, on_failure: Callable[[Session, Exception], None]) -> None:
        """Nothing is ready; `on_failure` is told of streams that cannot go on."""
        self.ready: dict[int, Session] = {}
        self.offload: Offload | None = None
        self.longest_ns = _SECTION_NS
        self.served: list[Session] = []
        self._on_failure = on_failure
        self._dense_cap = NEVER  # what a dense window may take now, whosever it is

    def bound(self, sessions: Collection[Session], most_ns: int) -> None:
        """A window that becomes ready during a section can afford to wait for half its deadline.

        Args:
            sessions: all that are open.
            most_ns: `max_section_us` of the configuration.
        """
        patience = {s.handle: max(_SHORTEST_SECTION_NS, s.terms.deadline_ns // 2) for s in sessions}
        self.longest_ns = min(_SECTION_NS, *patience.values(), NEVER)
        others = patience_of_others(patience)
        for session in sessions:
            own = session.terms.deadline_ns
            session.cap_ns = min(most_ns, others[session.handle], own)

    def next(self, now: int) -> list[Job]:
        """The windows to decode next; streams that have none are taken off the ready list."""
        self.served = []
        jobs: list[Job] = []
        offload = self.offload
        if offload is not None:
            self._hand_over(offload, now)
            for session, job in offload.urgent(now, self.longest_ns):
                self.served.append(session)
                jobs.append(job)
            if jobs or not self.ready:
                return jobs
        spent = 0
        for handle, windows, until in self._turns(now):
            if jobs and spent >= until:
                break
            session = self.ready[handle]
            cap = min(session.cap_ns, self._dense_cap)
            if jobs:  # with its seam a window may be another than was reckoned with
                cap = min(cap, until - spent)
            mine = self._jobs_of(session, windows, until - spent, cap)
            if mine:
                jobs.extend(mine)
                spent += sum(job.cost for job in mine)
                self.served.append(session)
                if offload is not None and session.terms.kinds is not None:
                    offload.answered_here(session, mine, now)
            else:
                self.ready.pop(handle, None)
        return jobs

    def _hand_over(self, offload: Offload, now: int) -> None:
        """Give the accelerator what it may have; streams that it has no room for stay ready."""
        for handle, session in list(self.ready.items()):
            if session.terms.kinds is None:
                continue
            while room := offload.room(session.terms.tier, now)[0]:
                jobs = self._jobs_of(session, room)
                for job in jobs:
                    offload.hand_over(session, job, now)
                if not jobs:
                    self.ready.pop(handle, None)
                    break

    def _turns(self, now: int) -> list[Turn]:
        longest = self.longest_ns
        if self.offload is not None:
            longest = min(longest, max(0, self.offload.wake_at - now))
        self._dense_cap = NEVER
        if len(self.ready) == 1:
            (session,) = self.ready.values()
            cost = session.decoder.cost.typical
            most = min(_MAX_READY, longest // cost) if cost else 1
            return [Turn(session.handle, max(1, most), longest)]
        waiting: list[Waiting] = []
        dense: list[Waiting] = []
        for handle, session in list(self.ready.items()):
            ready = session.decoder.ready(_MAX_READY)
            if not ready:
                del self.ready[handle]
                continue
            first = session.decoder.first_ready(session.cap_ns)
            due = effective_due(first.came.t_recv, session.terms.deadline_ns, session.served)
            one = Waiting(handle, due, first.cost, ready)
            (dense if first.dense else waiting).append(one)
        if dense and waiting:
            # What is dense is worth less than that anybody else is in time.
            self._dense_cap = latest_start((one.due, one.cost) for one in waiting) - now
            dense = [one._replace(cost=1) if one.cost > self._dense_cap else one for one in dense]
        waiting += dense
        return plan(waiting, now, longest) if waiting else []

    def _jobs_of(
        self, session: Session, limit: int, budget: int = NEVER, cap: int = NEVER
    ) -> list[Job]:
        try:
            return session.decoder.jobs(limit, budget, cap)
        except Exception as error:
            # A window that cannot be compiled: nobody else's stream may suffer for it.
            self._on_failure(session, error)
            return []
