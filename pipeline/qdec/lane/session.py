"""One open stream: what is expected next, what is refused and why, what goes out.

Pure: no socket and no clock of its own. The lane hands it messages and takes commits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qdec.bits import Bytes
from qdec.bus.cursor import Sealer
from qdec.bus.wire import Commit, Credit, PauseReason, Rounds, RoundsFlag, encode
from qdec.codes import Code, Part
from qdec.commit import Committed, CommittedShots, Flag, ShotDecoder, StreamDecoder
from qdec.commit.bank import WindowKey
from qdec.errors import WireCode, WireError
from qdec.lane.credits import Allowance
from qdec.lane.stats import LaneStats
from qdec.lane.watchdog import Watchdog
from qdec.lane.writing import RecordWriter
from qdec.match import Tier
from qdec.slo import Slo
from qdec.windows import Geometry
from qdec.windows.cut import answer_bytes

# A lane that has been busy for longer is overloaded, not delayed.
_LONGEST_BACKLOG_NS = 100_000_000
# Plain integers: arithmetic on IntFlag members costs a microsecond each.
_LATE, _INFEASIBLE, _PREEMPTED = int(Flag.LATE), int(Flag.INFEASIBLE), int(Flag.PREEMPTED)
_ERASED = int(Flag.ERASURE | Flag.ERASURE_IGNORED)
_KNOWN_FLAGS = int(RoundsFlag.LAST | RoundsFlag.LOST)
_LAST, _LOST = int(RoundsFlag.LAST), int(RoundsFlag.LOST)


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed when a stream was opened.

    Attributes:
        stream: its name.
        code: its code.
        raw: rounds carry measurements.
        tier: what answers.
        geometry: pinned until it closes.
        shot_rounds: rounds per shot; None if endless.
        deadline_ns: from a window's last byte to its commit.
        gap_ns: patience with a missing round.
        pause_ns: latency at which to ask for a pause.
        slo: its objectives.
        part: the part of the code that is decoded here; None for all of it.
        networks, ladder: 8 bytes each: what its cursors say of the networks and of the switching
            between tiers, see `Library.networks` and `Switching.digest`.
        identity: what makes the answers, see `qdec.lane.making`.
        kinds: what the accelerator may be asked, see `qdec.accelerator.kinds`; None for streams
            that the lane answers by itself.
        in_time: credit for no more than is answered in time, see `Allowance`.
    """

    stream: str
    code: Code
    raw: bool
    tier: Tier
    geometry: Geometry
    shot_rounds: int | None
    deadline_ns: int
    gap_ns: int
    pause_ns: int
    slo: Slo
    networks: bytes
    ladder: bytes
    identity: int
    part: Part | None = None
    kinds: Mapping[WindowKey, int] | None = None
    in_time: bool = False

    @property
    def share(self) -> tuple[int, int]:
        """(number of the part, how many there are); (0, 1) for all of the code."""
        return (self.part.index, self.part.of) if self.part else (0, 1)


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a message had not come yet.

    Attributes:
        t: ns of CLOCK_MONOTONIC.
        cpu: ns of CPU time that the thread had used.
    """

    t: int
    cpu: int


class Session:
    """An open stream of one client.

    Attributes:
        user: whose it is, see `qdec.security.access`.
        paused: why its client was asked to pause, if it was.
        served: ns at which its last decoding ended.
        cap_ns: what decoding one of its windows may take, where that is dense; see
            `qdec.commit.dense`.
        cursor: sealed state behind the last commit taken.
        watch: counts for this stream alone, and watches over its objectives.
        tally: what is counted.
    """

    def __init__(
        self,
        handle: int,
        epoch: int,
        peer: bytes,
        terms: Terms,
        decoder: StreamDecoder | ShotDecoder,
        key: bytes,
        watch: Watchdog,
        user: str,
    ) -> None:
        """Begin at the decoder's state; `key` authenticates its cursors."""
        self.user = user
        self.handle = handle
        self.epoch = epoch
        self.peer = peer
        self.terms = terms
        self.decoder = decoder
        self.paused: PauseReason | None = None
        self.served = 0
        self.cap_ns = terms.deadline_ns
        self.watch = watch
        self.tally = watch.tally
        self._gap_since: int | None = None
        self._record_bytes = decoder.intake.record_bytes
        state = decoder.state
        self._next_window = state.window
        self._writer = RecordWriter(*answer_bytes(terms.code.spacetime), terms.identity)
        part, parts = terms.share
        self._sealer = Sealer(
            shape=terms.code.shape,
            stream=terms.stream,
            raw=terms.raw,
            tier=terms.tier,
            window_rounds=terms.geometry.window,
            commit_rounds=terms.geometry.commit,
            shot_rounds=terms.shot_rounds or 0,
            part=part,
            parts=parts,
            networks=terms.networks,
            ladder=terms.ladder,
            key=key,
        )
        self.refresh_cursor()
        ring = decoder.credit_until - decoder.retain_from
        window = terms.geometry.longest or terms.code.spacetime.rounds
        self._allowance = Allowance(decoder.received, ring, 2 * window)
        # How long the accelerator is waited for is no sign of a queue.
        self._follows_latency = terms.in_time and terms.kinds is None

    def on_rounds(
        self,
        m: Rounds,
        body: bytes,
        now: int,
        stats: LaneStats,
        arrived: Arrival | None = None,
    ) -> None:
        """Take a frame.

        Latencies count from `arrived`: time spent in the socket's queue is the lane's, too.

        Raises:
            WireError: it was refused; the stream is as it was before.
        """
        if m.epoch != self.epoch:
            raise WireError(WireCode.STALE_EPOCH, "this epoch of the stream is over: resume")
        if m.flags & ~_KNOWN_FLAGS:
            raise WireError(WireCode.BAD_FRAME, f"unknown bits in flags {m.flags}")
        planes = 2 if m.flags & _LOST else 1
        need = m.count * self._record_bytes * planes
        if m.count < 1 or len(body) != need:
            raise WireError(
                WireCode.BAD_BITS,
                f"{m.count} rounds are {need} bytes on this stream, not {len(body)}",
                self.decoder.received,
            )
        expected = self.decoder.received
        if m.first_round < expected:
            stats.duplicates += 1
            raise WireError(
                WireCode.DUPLICATE,
                f"round {m.first_round} was received before; {expected} is next",
                expected,
            )
        if m.first_round + m.count > self.decoder.credit_until:
            raise WireError(
                WireCode.NO_CREDIT,
                f"rounds beyond {self.decoder.credit_until} have no credit",
                expected,
            )
        missing = m.first_round - expected
        if missing:
            self._on_gap(expected, now, stats)
        rows = np.frombuffer(body, dtype=np.uint8).reshape(planes * m.count, self._record_bytes)
        records, lost = rows[: m.count], rows[m.count :] if planes == 2 else None
        if missing:
            records, lost = _behind_lost_rounds(missing, records, lost)
        self.decoder.push(
            records,
            t_recv=now if arrived is None else arrived.t,
            t_send=m.t_send,
            cpu_recv=time.thread_time_ns() if arrived is None else arrived.cpu,
            last=bool(m.flags & _LAST),
            lost=lost,
        )
        self._gap_since = None
        stats.rounds += m.count
        stats.rounds_erased += missing
        self.tally.rounds += m.count
        self.tally.rounds_erased += missing

    def _on_gap(self, expected: int, now: int, stats: LaneStats) -> None:
        """Ask for the missing rounds; after the patience agreed on, let them be given up."""
        if self._gap_since is None:
            self._gap_since = now
            stats.gaps += 1
        if now - self._gap_since < self.terms.gap_ns:
            raise WireError(
                WireCode.GAP, f"round {expected} is missing: send again from it", expected
            )

    def encode_commits(
        self,
        commits: Sequence[Committed | CommittedShots],
        now: int,
        stats: LaneStats,
        idle: Arrival | None = None,
    ) -> tuple[bytes, bytes, int, int]:
        """(header, body, windows, longest latency in ns) of a COMMIT message for these windows.

        `idle` is when the lane last had nothing to do. A late window is PREEMPTED if it would have
        been in time but for what the operating system took from the lane since then: the backlog
        of a stall delays windows that come after it, too.
        """
        parts: list[bytes] = []
        worst = ours = late = preempted = 0
        tier = commits[0].tier
        cpu_now = time.thread_time_ns()
        stolen = 0
        if idle is not None and now - idle.t < _LONGEST_BACKLOG_NS:
            stolen = max(0, now - idle.t - (cpu_now - idle.cpu))
        deadline = self.terms.deadline_ns
        tally, watch, writer = self.tally, self.watch, self._writer
        windows = counted = 0
        for c in commits:
            came = c.came
            latency = now - came.t_recv if now > came.t_recv else 0
            worst = latency if latency > worst else worst
            more = 0
            if latency > deadline:
                more = _LATE
                if min(cpu_now - came.cpu_recv, latency - stolen) <= deadline:
                    more |= _PREEMPTED
            if latency > ours and not more & _PREEMPTED:
                ours = latency
            if isinstance(c, Committed):
                n = 1
                infeasible, erased = int(c.flags & _INFEASIBLE != 0), int(c.flags & _ERASED != 0)
                parts.append(writer.one(c, latency, more))
            else:
                n = len(c.flags)
                infeasible, erased = c.tell(_INFEASIBLE), c.tell(_ERASED)
                parts.append(writer.several(c, latency, more))
            if c.tier != tier:
                stats.answered(tier, windows - counted, late, preempted)
                tally.answered(windows - counted, late, preempted)
                tier, counted, late, preempted = c.tier, windows, 0, 0
            windows += n
            late += n if more else 0
            preempted += n if more & _PREEMPTED else 0
            if infeasible or erased:
                stats.infeasible += infeasible
                stats.erased += erased
            stats.window.add(latency, n)
            stats.overhead.add(latency - c.took if latency > c.took else 0, n)
            tally.window.add(latency, n)
            watch.judge(c, latency, n)
        stats.answered(tier, windows - counted, late, preempted)
        tally.answered(windows - counted, late, preempted)
        self._next_window = c.window + n
        if self._follows_latency:
            decoder = self.decoder
            self._allowance.answered(decoder.received, decoder.retain_from, ours, deadline)
        header = Commit(
            self.handle,
            self.epoch,
            windows,
            self.credit_until,
            self.decoder.retain_from,
            self.cursor,
        )
        return encode(header), b"".join(parts), windows, worst

    def refresh_cursor(self) -> None:
        """Seal the state behind the last commit taken."""
        self.cursor = self._sealer.seal(*self.decoder.state)

    @property
    def credit_until(self) -> int:
        """Rounds below this one may be sent: as many as are answered in time, see `Allowance`."""
        until = self.decoder.credit_until
        return min(until, self._allowance.until) if self._follows_latency else until

    @property
    def credit(self) -> Credit:
        """The answer to a PING."""
        return Credit(
            self.handle,
            self.epoch,
            self.credit_until,
            self.decoder.received,
            self._next_window,
        )


def _behind_lost_rounds(missing: int, records: Bytes, lost: Bytes | None) -> tuple[Bytes, Bytes]:
    """A frame with the rounds before it that never came, and what of both is lost.

    In one piece, so that a frame that is refused after all leaves the gap as it was, and a shot's
    tail may have a gap in it.
    """
    nothing = np.zeros((missing, records.shape[1]), dtype=np.uint8)
    known = np.zeros_like(records) if lost is None else lost
    return np.concatenate([nothing, records]), np.concatenate([~nothing, known])
