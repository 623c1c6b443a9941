"""One stream from detection events to commits: windows in flight, seams, frames, order.

No sockets and no clock: the lane pushes rounds, asks for `jobs`, has them decoded (in batches with
other streams' jobs), hands the answers to `finish`, and takes commits in order. Shots are
independent, so windows of later shots may be answered before an earlier shot is complete; commits
still leave in order.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from qdec.bits import Bytes
from qdec.commit.bank import WindowBank, WindowKey
from qdec.commit.batch import Job, count_events
from qdec.commit.cost import CostModel
from qdec.commit.dense import NEVER, First, NoCorrection, is_dense
from qdec.commit.erasures import erasures_of
from qdec.commit.flags import Flag
from qdec.commit.marks import Mark, Marks
from qdec.errors import WireCode, WireError
from qdec.ingest import Intake, LossLog, ShotPosition
from qdec.match import Answers, CompiledWindow, Tier
from qdec.windows.cut import Erasure, answer_bytes, carry_seam
from qdec.windows.geometry import Window, window_at, window_end
from qdec.windows.ring import RoundRing

# What is not decoded takes no time to speak of; 0 would say that nothing is known.
_AT_ONCE_NS = 1
# Plain integers: arithmetic on IntFlag members costs a microsecond each.
_INFEASIBLE, _SHOT_END = int(Flag.INFEASIBLE), int(Flag.SHOT_END)
_ERASURE, _ERASURE_IGNORED = int(Flag.ERASURE), int(Flag.ERASURE_IGNORED)
_UNCERTAIN = int(Flag.UNCERTAIN)


@dataclass(slots=True)
class Committed:
    """The answer to one window.

    Attributes:
        window: number of the window in the stream, from 0; -1 until it is next in order.
        first_round: stream round at which its commit region starts.
        count: rounds committed.
        tier: what answered.
        flags: bits of `Flag`.
        frame: ``(frame_bytes,)`` uint8: observables flipped since the shot began, all told.
        seam: ``(seam_bytes,)`` uint8: what the commit flips in the rounds after it.
        came: of the frame that completed the window.
        took: ns of the decoder's call that answered it.
        confidence: probability that the frame update is right; NaN where it is not known.
    """

    window: int
    first_round: int
    count: int
    tier: Tier
    flags: int
    frame: Bytes
    seam: Bytes
    came: Mark
    took: int
    confidence: float = math.nan


class StreamState(NamedTuple):
    """Everything a stream needs to go on from a commit boundary.

    Attributes:
        window: number of the next window.
        base: stream round at which the current shot starts.
        start: rounds of it committed.
        sweep_lost: whether some of its sweep bits were lost.
        frame: its frame so far.
        seam: the seam into its next rounds.
        history, sweep: see `Intake.history`.
        lost: ones where bits of the history were lost; empty if none were.
    """

    window: int = 0
    base: int = 0
    start: int = 0
    sweep_lost: bool = False
    frame: bytes = b""
    seam: bytes = b""
    history: bytes = b""
    sweep: bytes = b""
    lost: bytes = b""

    @property
    def next_round(self) -> int:
        """Stream round from which rounds must be sent again."""
        return self.base + self.start


@dataclass(slots=True)
class Shot:
    """A shot in progress.

    Attributes:
        ready_at: stream rounds that must have arrived for its next window; `NEVER` while one is
            being decoded and when there is none left.
        done: answered windows that have not been taken.
        sweep_lost: some of its sweep bits were lost.
        busy: one of its windows is being decoded.
    """

    base: int
    length: int | None
    frame: Bytes
    seam: Bytes
    start: int = 0
    ready_at: int = 0
    done: list[Committed] = field(default_factory=list)
    sweep_lost: bool = False
    busy: bool = False

    @property
    def complete(self) -> bool:
        """Whether its last window is answered."""
        return self.length is not None and self.start >= self.length


class StreamDecoder:
    """Windows, seams and frames of one stream; memory fixed at construction."""

    def __init__(
        self,
        bank: WindowBank,
        *,
        length: int | None,
        ring_rounds: int,
        raw: bool = False,
        state: StreamState | None = None,
        flags: int = 0,
    ) -> None:
        """Start a stream, or go on from a state.

        Args:
            bank: compiled windows of its code, tier and geometry.
            length: rounds per shot; None for shots that end when `last` is pushed, or never.
            ring_rounds: rounds that may be in flight; at least two windows.
            raw: rounds arrive as measurements.
            state: where to go on; from the beginning if None.
            flags: set on every commit (FENCED).

        Raises:
            WireError: BAD_CURSOR if the state does not fit the code.
        """
        code = bank.code
        self._bank = bank
        self._space = code.spacetime
        self._geometry = bank.geometry
        self._length = length
        self._flags = flags
        self._frame_bytes, self._seam_bytes = answer_bytes(code.spacetime)
        window = bank.geometry.longest or code.spacetime.rounds
        self._larger = bank.geometry.larger_commits
        self._ring = RoundRing(ring_rounds, window, code.layout.record_bytes)
        self.intake = Intake(code, raw=raw, ring_rounds=ring_rounds)
        self._losses = LossLog(ring_rounds + self.intake.lookback, self.intake.record_bytes)
        self._marks = Marks()
        self._shots: deque[Shot] = deque()
        state = state or StreamState()
        self._window = state.window
        self.cost = CostModel()
        self.received = state.next_round
        self._next_base = state.base
        if state.start:
            self._restore(state)

    def _restore(self, state: StreamState) -> None:
        sizes = len(state.frame), len(state.seam)
        if sizes != (self._frame_bytes, self._seam_bytes):
            raise WireError(WireCode.BAD_CURSOR, "the cursor's frame does not fit the code")
        if self._length is not None and state.start >= self._length:
            raise WireError(WireCode.BAD_CURSOR, "the cursor lies past its shot's end")
        self.intake.restore(state.base, state.next_round, state.history, state.sweep)
        shot = self._open_shot()
        shot.start = state.start
        self._expect_next(shot)
        shot.frame = np.frombuffer(state.frame, dtype=np.uint8).copy()
        shot.seam = np.frombuffer(state.seam, dtype=np.uint8).copy()
        shot.sweep_lost = state.sweep_lost
        if state.lost:
            self._restore_losses(state.lost, shot)

    @property
    def state(self) -> StreamState:
        """The state behind the last commit that was taken."""
        if not self._shots:
            return StreamState(window=self._window, base=self._next_base)
        shot = self._shots[0]
        if not shot.start:
            return StreamState(window=self._window, base=shot.base)
        boundary = shot.base + shot.start
        history, sweep = self.intake.history(shot.base, boundary)
        return StreamState(
            self._window,
            shot.base,
            shot.start,
            shot.sweep_lost,
            shot.frame.tobytes(),
            shot.seam.tobytes(),
            history,
            sweep,
            self._lost_before(shot) if self._losses else b"",
        )

    def _lost_before(self, shot: Shot) -> bytes:
        """What was lost in the rounds of the history: it matters to the rounds behind them, too."""
        boundary = shot.base + shot.start
        known = min(self.intake.lookback, shot.start)
        planes = np.zeros((known, self.intake.record_bytes), dtype=np.uint8)
        for round_, lost in self._losses.between(boundary - known, boundary):
            planes[round_ - boundary] = lost
        return planes.tobytes() if planes.any() else b""

    def _restore_losses(self, planes: bytes, shot: Shot) -> None:
        """Inverse of `_lost_before`."""
        known = min(self.intake.lookback, shot.start)
        if len(planes) != known * self.intake.record_bytes:
            raise WireError(WireCode.BAD_CURSOR, "the cursor's losses do not fit the stream")
        rows = np.frombuffer(planes, dtype=np.uint8).reshape(known, -1)
        self._losses.note(shot.base + shot.start - known, rows)

    @property
    def retain_from(self) -> int:
        """Earliest stream round that resuming would need again."""
        return self._shots[0].base + self._shots[0].start if self._shots else self._next_base

    @property
    def credit_until(self) -> int:
        """Stream round up to which (exclusive) rounds may be sent."""
        return self.retain_from + self._ring.capacity

    @property
    def nbytes(self) -> int:
        """Memory held for rounds."""
        return self._ring.nbytes + self.intake.nbytes + self._losses.nbytes

    def push(
        self,
        records: Bytes,
        *,
        t_recv: int,
        t_send: int,
        cpu_recv: int = 0,
        last: bool = False,
        lost: Bytes | None = None,
    ) -> None:
        """Take the stream's next rounds; the caller keeps to `credit_until`.

        Args:
            records: ``(n, record_bytes)`` uint8, n >= 1.
            t_recv: ns at which they were received.
            t_send: the client's stamp, handed back with the commit.
            cpu_recv: ns of CPU time used by then, likewise.
            last: the shot ends with these rounds (streams without a fixed length).
            lost: same shape, ones where a bit was lost.

        Raises:
            WireError: BAD_BITS or BAD_LENGTH; the stream is as it was before.
        """
        if not last and lost is None and self._goes_on(records):
            self._ring.write(self.received, records)
            self.received += len(records)
            self._marks.add(Mark(self.received, t_recv, t_send, cpu_recv))
            return
        positions = self._positions(len(records), last)
        detectors = self.intake.accept(records, positions)
        self._ring.write(self.received, detectors)
        if lost is not None:
            self._losses.note(self.received, lost)
        done = 0
        for position in positions:
            shot = self._shot_at(position)
            if lost is not None and position.start == 0:
                shot.sweep_lost = self.intake.lacks_sweep_bits(lost[done])
            done += position.count
        self.received += len(records)
        self._marks.add(Mark(self.received, t_recv, t_send, cpu_recv))

    def _goes_on(self, records: Bytes) -> bool:
        """Whether rounds can be taken as they are: more of an endless shot's repeating ones."""
        if self._length is not None or not self._shots:
            return False
        shot = self._shots[-1]
        return shot.length is None and self.intake.repeats(records, self.received - shot.base)

    def _positions(self, count: int, last: bool) -> list[ShotPosition]:
        """Cut the next `count` rounds at shot boundaries.

        Raises:
            WireError: BAD_LENGTH if `last` does not fall on an end the code can have.
        """
        shot = self._shots[-1] if self._shots else None
        if shot is None or (shot.length is not None and self.received >= shot.base + shot.length):
            base = self._next_base
        else:
            base = shot.base
        start = self.received - base
        if self._length is None:
            length = start + count if last else None
            if length is not None:
                self._check_end(length, count, shot.start if shot and shot.base == base else 0)
            return [ShotPosition(base, start, count, length)]
        if last and (start + count) % self._length:
            raise WireError(
                WireCode.BAD_LENGTH,
                f"'last' at round {start + count} of a shot of {self._length} rounds",
            )
        positions = []
        while count:
            n = min(count, self._length - start)
            positions.append(ShotPosition(base, start, n, self._length))
            base, start, count = base + self._length, 0, count - n
        return positions

    def _check_end(self, length: int, count: int, committed: int) -> None:
        space = self._bank.code.spacetime
        if not space.fits(length):
            raise WireError(
                WireCode.BAD_LENGTH,
                f"a shot of this code cannot have {length} rounds: it has at least "
                f"{space.head + space.tail}, and {space.rounds} plus or minus a multiple "
                f"of {max(1, space.period)}",
            )
        # A stream that was resumed inside its tail has only the rest of it to send.
        if count < min(self.intake.tail_in_one_frame, length - committed):
            raise WireError(
                WireCode.BAD_LENGTH,
                f"the last {self.intake.tail_in_one_frame} rounds of a shot must come in one "
                "frame, the one with 'last'",
            )

    def _open_shot(self) -> Shot:
        shot = Shot(
            self._next_base,
            self._length,
            np.zeros(self._frame_bytes, dtype=np.uint8),
            np.zeros(self._seam_bytes, dtype=np.uint8),
        )
        self._shots.append(shot)
        self._expect_next(shot)
        if self._length is not None:
            self._next_base += self._length
        return shot

    def _expect_next(self, shot: Shot) -> None:
        """Note when the shot's next window will be complete."""
        if shot.complete or shot.busy:
            shot.ready_at = NEVER
        else:
            shot.ready_at = shot.base + window_end(self._geometry, shot.start, shot.length)

    def _shot_at(self, position: ShotPosition) -> Shot:
        shot = self._shots[-1] if self._shots else None
        if shot is None or shot.base != position.base:
            shot = self._open_shot()
        if self._length is None and position.length is not None:
            shot.length = position.length
            self._next_base = shot.base + position.length
            self._expect_next(shot)
        return shot

    @property
    def answer_bytes(self) -> int:
        """Bytes of one window's answer: frame, then seam."""
        return self._frame_bytes + self._seam_bytes

    def ready(self, limit: int) -> int:
        """How many windows are ready, counted up to `limit`; a larger one for what it covers."""
        received = self.received
        found = 0
        for shot in self._shots:
            if shot.ready_at <= received:
                found += 1 if not self._larger else self._regions(shot, limit - found)
                if found >= limit:
                    break
        return found

    def _regions(self, shot: Shot, limit: int) -> int:
        """Commit regions that the next window of a shot may take at once, at most `limit`."""
        commit, buffer = self._geometry.commit, self._geometry.window - self._geometry.commit
        # With lost bits a window is compiled for the occasion: that is long enough as it is.
        if shot.start > self._bank.settled and not self._losses:
            for larger in self._larger:
                end = shot.start + larger + buffer
                inside = shot.length is None or end <= shot.length - self._space.tail
                if larger <= limit * commit and inside and shot.base + end <= self.received:
                    return larger // commit
        return 1

    def _expected(self, shot: Shot, cap: int) -> tuple[int, bool]:
        """Cost of the next window of a shot, and whether it is dense; without the seam into it."""
        rows = self._ring.view(shot.base + shot.start, shot.ready_at - shot.base - shot.start)
        events = count_events(rows)
        dense = is_dense(events, rows.size)
        if dense:
            cost = self.cost.bound(events)
            return (cost if cost <= cap else _AT_ONCE_NS), True
        return self.cost.expect(events), False

    def first_ready(self, cap: int = NEVER) -> First:
        """What is known of the first ready window.

        Args:
            cap: as for `jobs`.

        Raises:
            LookupError: no window is ready.
        """
        for shot in self._shots:
            if shot.ready_at <= self.received:
                return First(self._marks.of(shot.ready_at), *self._expected(shot, cap))
        raise LookupError("no window is ready")

    def oldest(self) -> Mark | None:
        """When the window came that is to be answered next; None if none has come whole."""
        if not self._shots:
            return None
        shot = self._shots[0]
        if shot.complete:
            return None
        end = shot.base + window_end(self._geometry, shot.start, shot.length)
        return self._marks.of(end) if end <= self.received else None

    def jobs(self, limit: int = 1 << 30, budget: int = NEVER, cap: int = NEVER) -> list[Job]:
        """At most `limit` windows that are complete and whose predecessor is answered.

        Args:
            limit: of windows.
            budget: ns that they may be expected to take, but for the first.
            cap: ns that a dense window may take; one that would take longer is not decoded, see
                `qdec.commit.dense`.
        """
        ready: list[Job] = []
        received = self.received
        for shot in self._shots:
            if shot.ready_at <= received:
                if ready and budget < NEVER:
                    budget -= ready[-1].cost
                    if self._expected(shot, cap)[0] > budget:
                        break
                ready.append(self._job(shot, limit, cap))
                limit -= ready[-1].regions
                # What was compiled for the occasion took long: look at the others first.
                if limit <= 0 or ready[-1].flags & _ERASURE:
                    break
        return ready

    def _job(self, shot: Shot, limit: int, cap: int) -> Job:
        start = shot.start
        window = window_at(self._geometry, start, shot.length)
        regions = self._regions(shot, limit) if self._larger else 1
        if regions > 1:
            more = (regions - 1) * window.commit
            window = Window(start, window.end + more, window.commit + more, shot.length)
        came = self._marks.of(shot.ready_at)  # of the first region, where there are several
        shot.ready_at = NEVER
        shot.busy = True
        syndrome = self._ring.view(shot.base + start, window.end - start).flatten()
        if start:
            overlap = min(self._seam_bytes, len(syndrome))
            syndrome[:overlap] ^= shot.seam[:overlap]
        events = count_events(syndrome)
        flags = self._flags
        if shot.sweep_lost:  # nothing can stand for a shot's sweep bits
            flags |= _ERASURE_IGNORED
        if self._is_too_long(events, len(syndrome), regions, cap):
            decoder: CompiledWindow = NoCorrection(self.answer_bytes)
            flags |= _UNCERTAIN
        else:
            decoder, more = self._decoder(shot, window)
            flags |= more
        tier = self._bank.tier
        return Job(
            self, shot, window, decoder, syndrome[None], flags, came, tier, events, regions=regions
        )

    def _is_too_long(self, events: int, size: int, regions: int, cap: int) -> bool:
        """Whether a window of so many bytes is not to be decoded; see `qdec.commit.dense`."""
        return is_dense(events, size) and self.cost.bound(events // regions) * regions > cap

    def _decoder(self, shot: Shot, window: Window) -> tuple[CompiledWindow, int]:
        """What decodes a window with what was lost in it, and flags that say so."""
        erasures: tuple[Erasure, ...] = ()
        flags = 0
        if self._losses:
            erasures, ignored = erasures_of(
                self._losses, self.intake, self._bank, shot.base, window
            )
            flags = (_ERASURE if erasures else 0) | (_ERASURE_IGNORED if ignored else 0)
        return self._bank.get(window, erasures), flags

    def key(self, job: Job) -> WindowKey:
        """What a job's windows are looked up by."""
        return self._bank.key(job.window)

    def finish(self, job: Job, answers: Answers) -> None:
        """Take the answer to one of this stream's jobs."""
        shot, window, flags = job.shot, job.window, job.flags
        assert isinstance(shot, Shot)
        answer = answers.bits[0]
        if not answers.feasible[0]:
            flags |= _INFEASIBLE
        if window.end == window.length:
            flags |= _SHOT_END
        frame = shot.frame ^ answer[: self._frame_bytes]
        seam = carry_seam(self._space, window, shot.seam, answer[self._frame_bytes :])
        shot.frame, shot.seam = frame, seam
        shot.start += window.commit
        shot.busy = False
        self._expect_next(shot)
        shot.done.append(
            Committed(
                -1,
                shot.base + window.start,
                window.commit,
                job.tier if answers.tiers is None else Tier(int(answers.tiers[0])),
                flags,
                frame,
                seam,
                job.came,
                job.took,
                math.nan if answers.confidence is None else float(answers.confidence[0]),
            )
        )

    def commits(self) -> list[Committed]:
        """Take the commits that are next in order."""
        taken: list[Committed] = []
        while self._shots:
            shot = self._shots[0]
            taken.extend(shot.done)
            shot.done.clear()
            if not shot.complete:
                break
            self.intake.forget(shot.base)
            self._shots.popleft()
        retain = self.retain_from
        self._losses.forget(retain - self.intake.lookback)
        self._marks.forget(retain)
        for commit in taken:
            commit.window = self._window
            self._window += 1
        return taken
