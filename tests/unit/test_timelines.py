"""Timelines of an accelerator that does whatever it likes: what the lane makes of each.

Time is virtual. Requests are answered late, out of order, twice, with noise, or never; the process
dies and is replaced, or hangs. Rounds come at any pace. The lane's loop turns when something has
happened, and when it said that it must, as its process would have it turn.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.accelerators import DEADLINE_NS, Pair, as_replayed, stream_config
from helpers.services import rounds_of_a_shot
from qdec.accelerator.exchange import Reply, Status
from qdec.commit import Flag
from qdec.lane.stats import REASONS
from qdec.match import Tier

MATCHING, CORRELATED = int(Tier.MATCHING), int(Tier.CORRELATED)
MS = 1_000_000
NAMES = ("a", "b")
ROUNDS = 150


class Fate(NamedTuple):
    """What becomes of one request.

    Attributes:
        after: ms from then until it is answered.
        how: ``well``, ``twice``, ``noise``, ``failed``, or ``never``.
    """

    after: float
    how: str


class Event(NamedTuple):
    """What happens, so many ms after the last event."""

    after: float
    what: str


@dataclass
class Device:
    """An accelerator that answers each request as is its fate."""

    pair: Pair
    fates: list[Fate]
    requests: int = 0
    hangs: bool = False
    coming: list[tuple[int, int, int, int, int, Reply]] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    # (slot, ticket) of what was acknowledged.
    answered: set[tuple[int, int]] = field(default_factory=set)

    def take(self) -> None:
        """Look at the slots, and see what will become of what is new there."""
        pair, exchange = self.pair, self.pair.exchange
        if pair.worker is None or self.hangs:
            return
        pair.beat()
        for slot, (asked, answered) in enumerate(
            zip(exchange.requested, exchange.answered, strict=True)
        ):
            if asked == answered or self.seen.get(slot) == asked:
                continue
            request = exchange.request(slot)
            if request.generation != pair.generation:
                continue
            self.seen[slot] = asked
            fate = self.fates[self.requests % len(self.fates)]
            self.requests += 1
            if fate.how == "never":
                continue
            kind = pair.kinds[request.kind]
            reply = Reply(Status.ANSWERED, kind.decoder.decode(request.syndromes.copy()))
            if fate.how == "failed":
                reply = Reply(Status.FAILED)
            at = pair.lane.now + int(fate.after * MS)
            number = len(self.coming) + 1000 * self.requests
            entry = (at, number, slot, asked, int(fate.how == "noise"), reply)
            heapq.heappush(self.coming, entry)
            if fate.how == "twice":
                again = (at + int(fate.after * MS) + MS, number + 1, *entry[2:])
                heapq.heappush(self.coming, again)

    @property
    def next_at(self) -> int:
        return self.coming[0][0] if self.coming else 1 << 62

    def answer(self) -> None:
        """Acknowledge what is due by now."""
        while self.next_at <= self.pair.lane.now:
            *_, slot, ticket, noisy, reply = heapq.heappop(self.coming)
            if self.pair.worker is None:
                continue
            self.pair.exchange.acknowledge(slot, ticket, reply)
            if noisy:
                self.pair.memory[4096 + slot * (1 << 15) + 64] ^= 0xFF
            self.answered.add((slot, ticket))

    def die(self) -> None:
        """With all that it had in hand."""
        self.pair.die()
        self.coming.clear()
        self.hangs = False


class Timeline:
    """Two streams, a lane, and the device, from one event to the next."""

    def __init__(self, fates: list[Fate]) -> None:
        self.pair = Pair(*[stream_config(name) for name in NAMES])
        self.device = Device(self.pair, fates)
        self.streams = {name: self.pair.open(name) for name in NAMES}
        self.records = {name: rounds_of_a_shot(ROUNDS, i) for i, name in enumerate(NAMES)}
        self.sent = dict.fromkeys(NAMES, 0)
        self.rows: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
        self.given_up: set[tuple[int, int]] = set()
        self.deaths = 0
        link = self.pair.lane.core._link
        assert link is not None
        give_up = link.give_up

        def noted(slot: int) -> None:
            self.given_up.add((slot, self.pair.exchange.requested[slot]))
            give_up(slot)

        link.give_up = noted

    def until(self, when: int) -> None:
        """Let time pass; whoever is to do something meanwhile does it in time."""
        lane, device = self.pair.lane, self.device
        while True:
            wake_at = int(lane.core.wake_at * 1e9) + 1 if lane.core.awaiting else 1 << 62
            coming = min(when, device.next_at, max(wake_at, lane.now))
            lane.now = max(lane.now, coming)
            self.turn()
            if lane.now >= when and device.next_at > lane.now:
                return

    def turn(self) -> None:
        """Everybody does what there is to do now."""
        self.device.answer()
        self.device.take()
        before = len(self.given_up & self.device.answered)
        self.pair.lane.work()
        # What was answered by then is taken before anything is given up.
        assert len(self.given_up & self.device.answered) == before
        for name, stream in self.streams.items():
            self.rows[name].append(stream.collect_once())
        self.device.take()

    def happens(self, event: Event) -> None:
        self.until(self.pair.lane.now + int(event.after * MS))
        match event.what:
            case "a" | "b":
                self.send(event.what, 10)
            case "death":
                self.deaths += self.pair.worker is not None
                self.device.die()
            case "birth" if self.pair.worker is None:
                self.device.seen.clear()
                self.pair.serve()
            case "hang":
                self.device.hangs = True
            case "recovery":
                self.device.hangs = False
        self.turn()

    def send(self, name: str, n: int) -> None:
        at, records = self.sent[name], self.records[name]
        end = min(len(records), at + n)
        if len(records) - end < 25:  # a shot's end comes in one piece
            end = len(records)
        if at < end:
            self.streams[name].send(at, records[at:end], last=end == len(records))
            self.sent[name] = end

    def finish(self) -> dict[str, np.ndarray]:
        """Send what is left; everything is answered, whatever the device does."""
        for name in NAMES:
            self.send(name, ROUNDS)
        self.turn()
        self.until(self.pair.lane.now + 2 * DEADLINE_NS)
        core = self.pair.lane.core
        assert not core.awaiting
        assert not core.waiting
        assert core._offload is not None
        core._offload.collect(self.pair.lane.now)  # which it does when it next has something to do
        return {name: np.concatenate(rows) for name, rows in self.rows.items()}


fates = st.builds(
    Fate,
    st.sampled_from([0.0, 0.2, 3.0, 40.0, 98.0, 101.0, 250.0]),
    st.sampled_from(["well", "well", "well", "twice", "noise", "failed", "never"]),
)
events = st.builds(
    Event,
    st.sampled_from([0.0, 0.1, 1.0, 10.0, 60.0, 300.0]),
    st.sampled_from(["a", "b", "a", "b", "a", "b", "death", "birth", "hang", "recovery"]),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(fates, min_size=1, max_size=12), st.lists(events, max_size=40))
def test_whatever_happens_each_window_is_answered_once_in_order_and_in_time(
    fates: list[Fate], events: list[Event]
) -> None:
    line = Timeline(fates)
    for event in events:
        line.happens(event)
    matched = 0
    for name, rows in line.finish().items():
        as_replayed(rows, [line.records[name]])  # each once, in order, rightly
        assert rows["count"].sum() == ROUNDS
        # Matching takes no time here: nothing that the device does makes anything late.
        assert not (rows["flags"] & Flag.LATE).any()
        matched += int((rows["tier"] == MATCHING).sum())
    core = line.pair.lane.core
    stats = core.stats
    assert sum(stats.fallbacks.values()) == matched, "each has one reason"
    assert set(stats.fallbacks) == set(REASONS)
    assert sum(one.tally.fallbacks for one in core._sessions.values()) == matched
    # What came after its window had been answered is counted, and is nothing else.
    came_late = len(line.given_up & line.device.answered)
    assert stats.discarded <= came_late
    # (A ticket that is acknowledged again may cover another one's acknowledgement.)
    if not line.deaths and "twice" not in {fate.how for fate in fates}:
        assert stats.discarded == came_late
    for reason in ("sick", "refused"):
        if not {"noise", "failed", "twice"} & {fate.how for fate in line.device.fates}:
            assert not stats.fallbacks[reason]


def test_one_that_is_quick_answers_everything_that_it_can() -> None:
    line = Timeline([Fate(0.2, "well")])
    for _ in range(12):
        line.happens(Event(10.0, "a"))
    rows = line.finish()["a"]
    assert (rows["tier"] == CORRELATED).sum() >= len(rows) - 3
    assert not line.pair.lane.core.stats.discarded


def test_one_that_is_always_late_is_left_alone_and_probed() -> None:
    line = Timeline([Fate(101.0, "well")])
    for _ in range(12):
        line.happens(Event(10.0, "a"))
    rows = line.finish()["a"]
    assert set(rows["tier"].tolist()) == {MATCHING}
    stats = line.pair.lane.core.stats
    assert stats.fallbacks["deadline"] >= 5
    assert stats.fallbacks["down"] >= 5
    assert stats.discarded >= len(line.given_up) - 1


def test_streams_do_not_hear_of_one_another() -> None:
    alone, both = Timeline([Fate(3.0, "well")]), Timeline([Fate(3.0, "well")])
    for line, what in ((alone, "a"), (both, "ab")):
        for _ in range(12):
            for name in what:
                line.happens(Event(5.0, name))
    a, b = alone.finish()["a"], both.finish()["a"]
    for name in ("window", "first_round", "frame", "seam"):
        np.testing.assert_array_equal(a[name], b[name])
