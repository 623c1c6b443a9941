"""Which work an engine's streams do next, together with what, and what is not done: a pure policy.

The earliest deadline goes first. A batch is as large as its most urgent work can afford, by
latencies that are learned from what comes back (`qdec.accelerator.latency`). Work is refused when
it comes if it would be late behind what is ahead of it, and dropped as soon as it is known to be
late. Where more waits than can be in time, what would make batches small is dropped for the sake of
the others. So nothing is begun that is expected to be late.

Who starves: no decoding, since all of it is begun or refused by its deadline. At equal deadlines
lanes take turns by windows. Calibration may, while decoding leaves no stream idle: it has what is
left, one batch at a time, and holds decoding up for no longer than `Terms.section_ns`.

Times are ns of one clock, which is the caller's. Nothing here knows an engine: `decide` says what
to start, and `completed` is told what has come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qdec.accelerator.latency import LatencyModel
from qdec.accelerator.plan import affordable, batches, spread, sustained, takes
from qdec.accelerator.queue import Queue, Waiting
from qdec.accelerator.streams import Out, Stream
from qdec.accelerator.work import (
    Batch,
    Decision,
    Hung,
    Priority,
    Reason,
    Skip,
    Start,
    StreamTerms,
    Terms,
    WaitUntil,
    Work,
)

NEVER = 1 << 62
# Once work had to be refused, more is expected to come than can be done: for so many full batches
# it is asked of what comes that there is time for a batch that can be `sustained`.
_PRESSED_BATCHES = 8
_DECODING, _CALIBRATION = Priority.DECODING, Priority.CALIBRATION


class Scheduler:
    """The state of one engine's work.

    Attributes:
        waiting: works that are neither started nor skipped.
        out: batches that were started and have not come back.
    """

    def __init__(
        self,
        streams: Sequence[StreamTerms],
        kinds: Mapping[int, LatencyModel],
        terms: Terms | None = None,
    ) -> None:
        """Nothing waits.

        Args:
            streams: the engine's, in the order in which idle ones are used.
            kinds: what batches of each kind of window take.
            terms: how to use them.
        """
        self._terms = terms or Terms()
        self._kinds = kinds
        self._streams = [Stream(index, one) for index, one in enumerate(streams)]
        # Where each priority's work is done.
        self._takers = {p: [s for s in self._streams if p in s.terms.takes] for p in Priority}
        self._queues: dict[Priority, dict[int, Queue]] = {p: {} for p in Priority}
        self._turns: dict[int, int] = {}
        self._turn = 0
        self._next = 1
        self._pressed_until = 0
        self._waiting = dict.fromkeys(Priority, 0)
        self._calibrating = 0
        self.waiting = 0
        self.out = 0

    # -- what happens ----------------------------------------------------------------------------

    def add(self, work: Work, now: int) -> Skip | None:
        """Work has come: why it is refused, or None if it waits now. Its kind must be known."""
        priority = work.priority
        takers = self._takers[priority]
        if not takers:
            return Skip(work, Reason.LONG)
        model, buckets = self._kinds[work.kind], takers[0].terms.buckets
        took = takes(model, buckets, work.windows)
        if now + took > work.give_up:
            if now <= work.give_up:
                model.doubt(now)
            return Skip(work, Reason.LATE)
        idle = not self._waiting[priority] and now >= max(self._pressed_until, takers[0].free_at)
        if (
            priority is _DECODING
            and not idle
            and self._behind_others(work, takers, now) > work.give_up
        ):
            self._press(work.kind, now)
            return Skip(work, Reason.BUSY)
        turn = max(self._turn, self._turns.get(work.lane, 0))
        self._turns[work.lane] = turn + work.windows
        queue = self._queues[priority].get(work.kind)
        if queue is None:
            queue = self._queues[priority][work.kind] = Queue()
        queue.add(Waiting(work.give_up, turn, work.number, work.windows, now, work))
        self._waiting[priority] += 1
        self.waiting += 1
        return None

    def completed(self, number: int, now: int) -> Batch | None:
        """A batch has come back, well or not; None if it is not out."""
        for stream in self._streams:
            for one in stream.out:
                if one.batch.number == number:
                    self._came_back(stream, one, now)
                    return one.batch
        return None

    def _came_back(self, stream: Stream, one: Out, now: int) -> None:
        batch = one.batch
        took = stream.end(one, now, self._terms.hang_ns)
        self._kinds[batch.kind].learn(batch.bucket, took // batch.passes, now)
        self._calibrating -= batch.work[0].priority is _CALIBRATION
        self.out -= 1

    # -- what to do ------------------------------------------------------------------------------

    def decide(self, now: int) -> list[Decision]:
        """What to do now; it is assumed to be done.

        Returns:
            What to skip and to start in this order, and `WaitUntil` at the end; or `Hung` alone.
        """
        wake = NEVER
        if self.out:
            for stream in self._streams:
                if stream.out and now >= stream.out[0].hangs_at:
                    return [Hung(stream.index, stream.out[0].batch)]
        decisions: list[Decision] = []
        if self.waiting:
            self._drop_late(now, decisions)
            for stream in self._by_turn(now):
                while self.waiting and len(stream.out) < stream.terms.most:
                    look, again = self._fill(stream, now, decisions)
                    if not again:
                        if look < wake:
                            wake = look
                        break
            if self.waiting:
                wake = min(wake, self._late_at())
        if self.out:
            for stream in self._streams:
                if stream.out and stream.out[0].hangs_at < wake:
                    wake = stream.out[0].hangs_at
        decisions.append(WaitUntil(wake))
        return decisions

    def _by_turn(self, now: int) -> Sequence[Stream]:
        """Streams, the one that is free first before the others."""
        if len(self._streams) == 1:
            return self._streams
        return sorted(self._streams, key=lambda s: s.free_at if s.free_at > now else now)

    def _drop_late(self, now: int, decisions: list[Decision]) -> None:
        """Skip what would be late even on the stream that is free first."""
        for priority, queues in self._queues.items():
            if not self._waiting[priority]:
                continue
            takers = self._takers[priority]
            begins = max(now, min(stream.free_at for stream in takers))
            for kind, queue in queues.items():
                model, buckets = self._kinds[kind], takers[0].terms.buckets
                while queue.waiting:
                    first = queue.waiting[0]
                    if begins + takes(model, buckets, first.windows) <= first.give_up:
                        break
                    self._skip(queue, Reason.OVERTAKEN, now, decisions)

    def _late_at(self) -> int:
        """When something that waits will be late unless it is begun before."""
        found = NEVER
        for priority, queues in self._queues.items():
            if not self._waiting[priority]:
                continue
            for kind, queue in queues.items():
                if queue.waiting:
                    first, buckets = queue.waiting[0], self._takers[priority][0].terms.buckets
                    took = takes(self._kinds[kind], buckets, first.windows)
                    found = min(found, first.give_up - took + 1)
        return found

    def _fill(self, stream: Stream, now: int, decisions: list[Decision]) -> tuple[int, bool]:
        """Give a stream a batch if it should have one: (when to look again, whether to at once)."""
        look = NEVER
        if self._waiting[_DECODING] and _DECODING in stream.terms.takes:
            queue = self._most_urgent(stream, now)
            if queue is not None:
                look = self._not_before(queue, stream, now)
                if look <= now:
                    self._form(queue, stream, now, decisions)
                    return now, True
        if self._waiting[_CALIBRATION] and _CALIBRATION in stream.terms.takes and not stream.out:
            return look, self._calibrate(stream, now, look, decisions)
        return look, False

    def _most_urgent(self, stream: Stream, now: int) -> Queue | None:
        """The queue whose turn it is on a stream, if its first work would be in time there."""
        waiting = [queue for queue in self._queues[_DECODING].values() if queue.waiting]
        if not waiting:
            return None
        queue = min(waiting, key=_first) if len(waiting) > 1 else waiting[0]
        if stream.free_at <= now:
            return queue  # what would be late even so is dropped
        return queue if self._makes_it(queue.waiting[0], stream, now) else None

    def _makes_it(self, one: Waiting, stream: Stream, now: int) -> bool:
        took = takes(self._kinds[one.work.kind], stream.terms.buckets, one.windows)
        return stream.begins(now) + took <= one.give_up

    def _not_before(self, queue: Queue, stream: Stream, now: int) -> int:
        """When the next batch of a queue should be given to a stream; now if it is past."""
        buckets = stream.terms.buckets
        if queue.windows >= buckets.most:
            return now
        if stream.out:
            return stream.free_at - self._terms.lead_ns
        wait = self._terms.wait_ns
        if not wait or sum(len(one.waiting) for one in self._queues[_DECODING].values()) > len(
            queue.waiting
        ):
            return now  # others need the stream
        first = queue.waiting[0]
        larger = buckets.of(queue.windows + 1)
        affords = first.give_up - self._kinds[first.work.kind].expect(larger)
        return min(min(one.came for one in queue.waiting) + wait, affords)

    def _form(self, queue: Queue, stream: Stream, now: int, decisions: list[Decision]) -> None:
        """Start a batch with a queue's most urgent work."""
        begins, buckets = stream.begins(now), stream.terms.buckets
        model = self._kinds[queue.waiting[0].work.kind]
        wanted = buckets.of(queue.windows)
        if now < self._pressed_until and begins + model.expect(wanted) > queue.waiting[0].give_up:
            self._shed(queue, stream, now, decisions)
            while queue.waiting and not self._makes_it(queue.waiting[0], stream, now):
                self._skip(queue, Reason.OVERTAKEN, now, decisions)
            if not queue.waiting:
                return
        room = affordable(model, buckets, queue.waiting[0].give_up - begins, wanted)
        self._start(queue, stream, room, now, decisions)

    def _shed(self, queue: Queue, stream: Stream, now: int, decisions: list[Decision]) -> None:
        """Drop what would make batches smaller than those in which all can be done."""
        model, buckets = self._kinds[queue.waiting[0].work.kind], stream.terms.buckets
        begins = stream.begins(now)
        while len(queue.waiting) > 1:
            first = queue.waiting[0]
            fair = sustained(model, buckets, first.give_up - first.came)
            floor = min(fair, buckets.of(queue.windows))
            if begins + model.expect(floor) <= first.give_up:
                return
            self._skip(queue, Reason.SHED, now, decisions)

    def _calibrate(self, stream: Stream, now: int, until: int, decisions: list[Decision]) -> bool:
        """Start calibration on an idle stream that decoding does not need before `until`."""
        if self._calibrating:
            return False
        longest = until - now
        if _DECODING in stream.terms.takes:
            longest = min(longest, self._terms.section_ns)
        buckets = stream.terms.buckets
        for kind, queue in self._queues[_CALIBRATION].items():
            model = self._kinds[kind]
            while queue.waiting:
                first = queue.waiting[0]
                took = takes(model, buckets, first.windows)
                if now + took > first.give_up:
                    self._skip(queue, Reason.OVERTAKEN, now, decisions)
                elif took > longest:
                    if until != NEVER:
                        break  # later, perhaps
                    model.doubt(now)
                    self._skip(queue, Reason.LONG, now, decisions)
                else:
                    room = min(longest, first.give_up - now)
                    size = affordable(model, buckets, room, buckets.of(queue.windows))
                    self._start(queue, stream, size, now, decisions)
                    return True
        return False

    def _start(
        self, queue: Queue, stream: Stream, room: int, now: int, decisions: list[Decision]
    ) -> None:
        taken = queue.take(room)
        buckets = stream.terms.buckets
        windows = sum(one.windows for one in taken)
        kind = taken[0].work.kind
        work = tuple(one.work for one in taken)
        batch = Batch(self._next, kind, buckets.of(windows), buckets.passes(windows), work)
        self._next += 1
        self._turn = max(self._turn, taken[0].turn)
        expected = batch.passes * self._kinds[kind].expect(batch.bucket)
        stream.begin(batch, expected, now, self._terms.hang_ns)
        priority = work[0].priority
        self._calibrating += priority is _CALIBRATION
        self._waiting[priority] -= len(taken)
        self.waiting -= len(taken)
        self.out += 1
        decisions.append(Start(stream.index, batch))

    def _press(self, kind: int, now: int) -> None:
        """More decoding is asked for than can be done."""
        most = self._takers[_DECODING][0].terms.buckets.most
        self._pressed_until = now + _PRESSED_BATCHES * self._kinds[kind].expect(most)

    def _skip(self, queue: Queue, reason: Reason, now: int, decisions: list[Decision]) -> None:
        work = queue.pop().work
        if work.priority is _DECODING:
            self._press(work.kind, now)
        decisions.append(Skip(work, reason))
        self._waiting[work.priority] -= 1
        self.waiting -= 1

    # -- what is expected ------------------------------------------------------------------------

    def _behind_others(self, work: Work, takers: Sequence[Stream], now: int) -> int:
        """When work would be done, ns: behind what is out, and what is due no later than it."""
        free = sorted(stream.begins(now) for stream in takers)
        buckets, last = takers[0].terms.buckets, 0
        model = self._kinds[work.kind]
        least = 0
        if now < self._pressed_until:
            least = sustained(model, buckets, work.give_up - now)
        for kind, queue in self._queues[_DECODING].items():
            windows = queue.ahead_of(work.give_up)
            if kind == work.kind:
                last = windows
            elif windows:
                spread(free, batches(self._kinds[kind], buckets, windows))
        *before, own = batches(model, buckets, last + work.windows, least)
        spread(free, before)
        return free[0] + own


def _first(queue: Queue) -> Waiting:
    return queue.waiting[0]
