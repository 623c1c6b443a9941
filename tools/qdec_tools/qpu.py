"""A QPU simulator: rounds over the real socket at a set cycle time, answers against the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from qdec.client import Commits, Stream
from qdec.commit import Flag
from qdec.match import Tier
from qdec_tools.histogram import Latencies
from qdec_tools.sources import Source

# Rounds per message: a message costs a lane as much as decoding some twenty rounds of d=5, so fast
# cycles send many at once; slow ones need not wait for so many.
_FRAME_ROUNDS = 200
_FRAME_US = 400.0
# A simulator that is so many messages behind its clock was held up.
_MAX_BEHIND_FRAMES = 1.0
# Rounds held back for want of credit at which a free-running source waits for commits.
_MAX_UNSENT = 4096
# Commit messages looked at together: checking one alone costs as much as checking a hundred.
_DIGEST = 128
_REPORT_S = 0.25
# `auto` paces at this much more than the cycle time that was sustained at full speed.
_AUTO_MARGIN = 1.2
# ... and is lengthened until a trial has at most this share of late windows of the lane's making.
_LATE_SHARE = 0.001
_TRIALS = 6
# Finding a cycle time takes at most about this share of a run, in trials of so much of it.
_FINDING_SHARE = 0.4
_TRIAL_SHARE, _FLOOD_SHARE = 0.05, 0.075
# ... and leaves room for neighbours, and for the slow seconds of a shared machine, which a short
# trial does not show (at 2.0, 3 % of windows were late in one run of three).
_ROOM = 4.0


@dataclass(slots=True)
class Report:
    """What a QPU has seen so far, since it has been streaming at the pace shown.

    Attributes:
        seconds: since the first round of these.
        stalled_s: of those, how long the simulator's clock stood still because it was held up.
        cycle_us: time per round; 0 for as fast as credits allow.
        rounds: sent.
        committed: rounds committed.
        backlog: rounds sent and not committed.
        rate_hz: rounds committed per second, over the last interval.
        windows: answered.
        late: of those, later than their deadline.
        late_share: late beyond the scheduler's own delays (not `preempted`), as a share of all.
        preempted: of the late, those the operating system delayed (see `qdec.commit.Flag`).
        infeasible: windows whose syndrome nothing explains.
        tiers: windows by tier.
        resumes: breaks survived.
        errors: logical errors.
        checked: closed boundaries or shots they are counted over.
        error_rate: per round (endless) or per shot.
        lane_us: last byte in the lane -> commit encoded.
        client_us: last round of the frame that completed a window -> its commit here.
        events: the last few out-of-the-ordinary events.
    """

    seconds: float = 0.0
    stalled_s: float = 0.0
    cycle_us: float = 0.0
    rounds: int = 0
    committed: int = 0
    backlog: int = 0
    rate_hz: float = 0.0
    windows: int = 0
    late: int = 0
    preempted: int = 0
    infeasible: int = 0
    tiers: dict[str, int] = field(default_factory=dict)
    resumes: int = 0
    errors: int = 0
    checked: int = 0
    error_rate: float = float("nan")
    lane_us: dict[str, float] = field(default_factory=dict)
    client_us: dict[str, float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    @property
    def late_share(self) -> float:
        """See the class; 0 before the first window."""
        return (self.late - self.preempted) / max(1, self.windows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: no NaN."""
        out = {**asdict(self), "late_share": self.late_share}
        if out["error_rate"] != out["error_rate"]:
            out["error_rate"] = None
        return out


class Qpu:
    """Streams a source's rounds and checks what comes back."""

    def __init__(self, stream: Stream, source: Source, on_report: Callable[[Report], None]) -> None:
        """Use an open stream; `on_report` is called a few times per second."""
        self._stream = stream
        self._source = source
        self._on_report = on_report
        self._lane = Latencies()
        self._client = Latencies()
        self._came: list[tuple[int, Commits]] = []
        self._sent = stream.info.next_round
        self._next_report = 0.0
        self.report = Report()
        self._begin()
        stream.on_event = self._event

    def _event(self, line: str) -> None:
        self.report.events = [*self.report.events[-4:], line]

    def run(
        self, cycle_us: float | None, seconds: float, frame_rounds: int | None = None
    ) -> Report:
        """Stream for a while, end the shot, wait for the last commit.

        Args:
            cycle_us: time per round in µs; 0 for as fast as credits allow; None to find out first
                what can be sustained, and pace at that.
            seconds: how long, finding out included; a source that ends sooner ends the run.
            frame_rounds: rounds per message; chosen from the cycle time if None.

        Raises:
            Refused, ServiceUnavailable: as the stream's methods.
        """
        until = time.monotonic() + seconds
        if cycle_us is None:
            cycle_us = self._find_cycle(seconds)
        self._begin()
        self.report.cycle_us = cycle_us
        if cycle_us:
            self._pace(cycle_us, until, frame_rounds or frame_for(cycle_us))
        else:
            self._free_run(until, frame_rounds or 256)
        self._finish()
        self._publish(time.monotonic())
        return self.report

    def interrupted(self) -> Report:
        """The report of a run that an exception has ended."""
        self._update(time.monotonic())
        return self.report

    def _begin(self) -> None:
        """Count from here on: what was sent before is another pace's."""
        self._digest()
        self._origin = self._sent
        self._began = time.monotonic()
        self._last = (self._began, self._stream.committed)
        self._lane, self._client = Latencies(), Latencies()
        self._source.forget()
        self.report = Report(events=self.report.events)

    def _find_cycle(self, seconds: float) -> float:
        """The shortest cycle time, in µs, at which a trial keeps its deadlines, and some room.

        The first guess is what the whole chain does at full speed, with a margin.
        """
        give_up = time.monotonic() + _FINDING_SHARE * seconds
        cycle_us = self._flood(_FLOOD_SHARE * seconds)
        for _ in range(_TRIALS):
            self._begin()
            until = time.monotonic() + _TRIAL_SHARE * seconds
            self._pace(cycle_us, until, frame_for(cycle_us))
            self._settle()
            if self.report.late_share <= _LATE_SHARE:
                break
            cycle_us = round(cycle_us * 1.3, 1)
            if time.monotonic() > give_up:
                break
        return round(cycle_us * _ROOM, 1)

    def _flood(self, seconds: float) -> float:
        started = time.monotonic()
        first = self._sent
        self._free_run(started + seconds, frame_for(1.0))
        self._settle()
        per_round = (time.monotonic() - started) / (self._sent - first)
        return max(1.0, float(np.ceil(per_round * 1e7 * _AUTO_MARGIN) / 10))

    def _settle(self) -> None:
        """Wait for the windows that are complete; what remains is no queue."""
        info = self._stream.info
        settled = self._sent - 2 * (info.window or info.shot_rounds)
        while self._stream.committed < settled:
            self._take(self._stream.poll(0.01))
        self._digest()

    def _free_run(self, until: float, frame_rounds: int) -> None:
        while (now := time.monotonic()) < until:
            self._take(self._stream.poll(0.05 if self._stream.unsent > _MAX_UNSENT else 0))
            self._maybe_report(now)
            if self._stream.unsent <= _MAX_UNSENT and not self._send(frame_rounds, None):
                return

    def _pace(self, cycle_us: float, until: float, frame_rounds: int) -> None:
        """A frame leaves when its last round has happened; nobody waits for answers.

        A QPU does not stand still and then make up for it in one burst, as a simulator does that
        the operating system held up: its clock stops as long, and the report says how long.
        """
        cycle_ns = cycle_us * 1000.0
        begin_ns = time.monotonic_ns()
        end_ns = int(until * 1e9)
        origin = self._sent
        while True:
            happened = begin_ns + int((self._sent - origin + frame_rounds) * cycle_ns)
            if happened > end_ns:
                return
            while True:  # at least once, also when behind: credits come with commits
                now = time.monotonic_ns()
                self._take(self._stream.poll(max(0, happened - now) * 1e-9))
                if time.monotonic_ns() >= happened:
                    break
            behind = time.monotonic_ns() - happened
            if behind > _MAX_BEHIND_FRAMES * frame_rounds * cycle_ns:
                begin_ns += behind
                happened += behind
                self.report.stalled_s += behind * 1e-9
            if not self._send(frame_rounds, happened):
                return
            self._maybe_report(now * 1e-9)

    def _send(self, count: int, stamp: int | None) -> bool:
        records = self._source.next(count)
        if not len(records):
            return False
        self._stream.send(records, t_send=stamp)
        self._sent += len(records)
        return True

    def _finish(self) -> None:
        rest = self._source.close()
        if rest is not None and len(rest):
            self._stream.send(rest, last=not self._stream.info.shot_rounds)
            self._sent += len(rest)
        for commits in self._stream.drain():
            self._take([commits])

    def _take(self, batches: list[Commits]) -> None:
        """Note when commits came; look at them a few hundred at a time."""
        if batches:
            now = time.monotonic_ns()
            self._came.extend((now, commits) for commits in batches)
            if len(self._came) >= _DIGEST:
                self._digest()

    def _digest(self) -> None:
        if not self._came:
            return
        commits = np.concatenate([c for _, c in self._came])
        came = np.repeat([now for now, _ in self._came], [len(c) for _, c in self._came])
        self._came.clear()
        before = commits["first_round"] < self._origin
        if before.any():
            self._source.check(commits[before])
            self._source.forget()
            commits, came = commits[~before], came[~before]
        report, flags = self.report, commits["flags"]
        self._lane.add_many(commits["latency_ns"])
        self._client.add_many(came - commits["t_send"].astype(np.int64))
        report.windows += len(commits)
        report.late += int(((flags & int(Flag.LATE)) != 0).sum())
        report.preempted += int(((flags & int(Flag.PREEMPTED)) != 0).sum())
        report.infeasible += int(((flags & int(Flag.INFEASIBLE)) != 0).sum())
        for number, here in zip(*np.unique(commits["tier"], return_counts=True), strict=True):
            label = Tier(int(number)).label
            report.tiers[label] = report.tiers.get(label, 0) + int(here)
        if len(commits):
            self._source.check(commits)

    def _maybe_report(self, now: float) -> None:
        if now >= self._next_report:
            self._next_report = now + _REPORT_S
            self._publish(now)

    def _publish(self, now: float) -> None:
        self._digest()
        self._update(now)
        self._on_report(self.report)

    def _update(self, now: float) -> None:
        report, stream = self.report, self._stream
        report.seconds = now - self._began
        report.rounds = self._sent - self._origin
        report.committed = max(0, stream.committed - self._origin)
        report.backlog = self._sent - stream.committed
        before, committed = self._last
        if now > before:
            report.rate_hz = (stream.committed - committed) / (now - before)
        self._last = (now, stream.committed)
        report.resumes = stream.resumes
        report.errors, report.checked = self._source.errors, self._source.checked
        report.error_rate = self._source.rate
        report.lane_us = self._lane.summary_us()
        report.client_us = self._client.summary_us()


def frame_for(cycle_us: float) -> int:
    """Rounds per message at a cycle time."""
    return max(1, min(_FRAME_ROUNDS, round(_FRAME_US / cycle_us)))
