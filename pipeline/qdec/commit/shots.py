"""One stream of shots that are each one window: many shots are one step, not many.

Does what `StreamDecoder` does for such a stream, but in columns: a frame of 64 shots is checked,
decoded and committed as arrays. Commits end where shots end, so nothing but the number of the next
shot has to be remembered between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.commit.bank import WindowBank, WindowKey
from qdec.commit.batch import Job, count_events
from qdec.commit.cost import CostModel
from qdec.commit.dense import NEVER, First, NoCorrection, is_dense
from qdec.commit.erasures import erasures_of
from qdec.commit.flags import Flag
from qdec.commit.marks import Mark, Marks
from qdec.commit.stream import StreamState
from qdec.errors import WireCode, WireError
from qdec.ingest import Intake, LossLog, ShotPosition
from qdec.match import Answers, CompiledWindow, Tier
from qdec.windows.cut import answer_bytes
from qdec.windows.geometry import window_at
from qdec.windows.ring import RoundRing

# Shots per job: calls of the decoder are amortised from some tens on.
_MAX_SHOTS = 64
_AT_ONCE_NS = 1  # as in `qdec.commit.stream`


@dataclass(slots=True)
class CommittedShots:
    """The answers to consecutive shots whose last rounds came in the same frame.

    Attributes:
        window: number of the first one's window in the stream.
        first_round: stream round at which it starts.
        count: rounds of each.
        tier: what answered.
        flags: ``(n,)`` uint16, bits of `Flag`.
        frames: ``(n, frame_bytes)`` uint8: observables flipped in each shot.
        came: when they came.
        took: ns of the decoder's call that answered them.
        confidence: ``(n,)`` float32, see `Answers`.
    """

    window: int
    first_round: int
    count: int
    tier: Tier
    flags: NDArray[np.uint16]
    frames: Bytes
    came: Mark
    took: int
    confidence: NDArray[np.float32] | None = None

    def tell(self, flags: int) -> int:
        """How many of the shots have any of these flags."""
        return int(np.count_nonzero(self.flags & flags))


class ShotDecoder:
    """Shots of one length, each decoded whole; the interface of `StreamDecoder`."""

    def __init__(
        self,
        bank: WindowBank,
        *,
        length: int,
        ring_rounds: int,
        raw: bool = False,
        state: StreamState | None = None,
        flags: int = 0,
        most_shots: int = _MAX_SHOTS,
    ) -> None:
        """Start a stream, or go on from a state; see `StreamDecoder`.

        Args:
            bank, length, ring_rounds, raw, state, flags: likewise.
            most_shots: in one job.

        Raises:
            WireError: BAD_CURSOR if the state lies within a shot.
        """
        code = bank.code
        state = state or StreamState()
        if state.start:
            raise WireError(WireCode.BAD_CURSOR, "the cursor lies within a shot")
        self._bank = bank
        self._space = code.spacetime
        self._length = length
        self._window = window_at(bank.geometry, 0, length)
        self._flags = flags | int(Flag.SHOT_END)
        self._most_shots = min(most_shots, _MAX_SHOTS)
        self._frame_bytes, self._seam_bytes = answer_bytes(code.spacetime)
        self._ring = RoundRing(ring_rounds, length, code.layout.record_bytes)
        self.intake = Intake(code, raw=raw, ring_rounds=ring_rounds)
        self._losses = LossLog(ring_rounds, self.intake.record_bytes)
        self._sweeps_lost: set[int] = set()
        self._marks = Marks()
        self._done: dict[int, CommittedShots] = {}
        self._next_window = state.window
        self.cost = CostModel()
        self.received = self._taken = self.retain_from = state.base

    @property
    def state(self) -> StreamState:
        """The state behind the last commit that was taken."""
        return StreamState(window=self._next_window, base=self.retain_from)

    @property
    def credit_until(self) -> int:
        """Stream round up to which (exclusive) rounds may be sent."""
        return self.retain_from + self._ring.capacity

    @property
    def nbytes(self) -> int:
        """Memory held for rounds."""
        return self._ring.nbytes + self.intake.nbytes + self._losses.nbytes

    @property
    def answer_bytes(self) -> int:
        """Bytes of one window's answer: frame, then seam."""
        return self._frame_bytes + self._seam_bytes

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
        """Take the stream's next rounds; see `StreamDecoder.push`.

        Raises:
            WireError: BAD_BITS or BAD_LENGTH; the stream is as it was before.
        """
        n = len(records)
        base = self._shot_of(self.received)
        start = self.received - base
        if last and (start + n) % self._length:
            raise WireError(
                WireCode.BAD_LENGTH,
                f"'last' at round {start + n} of a shot of {self._length} rounds",
            )
        detectors = None
        if not start and not n % self._length:
            detectors = self.intake.accept_shots(records, self._length)
        if detectors is None:
            detectors = self._accept(records, base, start)
        self._ring.write(self.received, detectors)
        if lost is not None:
            self._note_losses(lost, base, start)
        self.received += n
        self._marks.add(Mark(self.received, t_recv, t_send, cpu_recv))

    def _shot_of(self, round_: int) -> int:
        """The stream round at which a round's shot starts. (What is retained starts with one.)"""
        return round_ - (round_ - self.retain_from) % self._length

    def _accept(self, records: Bytes, base: int, start: int) -> Bytes:
        """Rounds that are not just whole shots."""
        positions = []
        left = len(records)
        while left:
            n = min(left, self._length - start)
            positions.append(ShotPosition(base, start, n, self._length))
            base, start, left = base + self._length, 0, left - n
        detectors = self.intake.accept(records, positions)
        for position in positions:
            if position.start + position.count == self._length:
                self.intake.forget(position.base)
        return detectors

    def _note_losses(self, lost: Bytes, base: int, start: int) -> None:
        self._losses.note(self.received, lost)
        for first in range(-start % self._length, len(lost), self._length):
            if self.intake.lacks_sweep_bits(lost[first]):
                self._sweeps_lost.add(self.received + first)

    def ready(self, limit: int) -> int:
        """How many shots are ready, counted up to `limit`."""
        return min(limit, (self.received - self._taken) // self._length)

    def first_ready(self, cap: int = NEVER) -> First:
        """What is known of the first ready shot; see `StreamDecoder.first_ready`.

        Raises:
            LookupError: none is ready.
        """
        if not self.ready(1):
            raise LookupError("no shot is ready")
        rows = self._ring.view(self._taken, self._length)
        events = count_events(rows)
        came = self._marks.of(self._taken + self._length)
        if is_dense(events, rows.size):
            cost = self.cost.bound(events)
            return First(came, cost if cost <= cap else _AT_ONCE_NS, True)
        return First(came, self.cost.expect(events), False)

    def _is_too_long(self, events: int, cap: int) -> bool:
        """See `Job.is_too_long`."""
        width = self._length * self._space.layout.record_bytes
        return is_dense(events, width) and self.cost.bound(events) > cap

    def oldest(self) -> Mark | None:
        """When the shot came that is to be answered next; None if none has come whole."""
        end = self.retain_from + self._length
        return self._marks.of(end) if end <= self.received else None

    def jobs(self, limit: int = 1 << 30, budget: int = NEVER, cap: int = NEVER) -> list[Job]:
        """At most `limit` complete shots, in jobs of several that came together.

        Args:
            limit: of shots.
            budget, cap: see `StreamDecoder.jobs`.
        """
        found: list[Job] = []
        while ready := self.ready(min(limit, self._most_shots)):
            if found and budget < NEVER:
                budget -= found[-1].cost
                if self.first_ready(cap).cost > budget:
                    break
            found.append(self._job(ready, budget, cap))
            limit -= len(found[-1].syndrome)
            # What was compiled for the occasion took long: look at the others first.
            if found[-1].flags & int(Flag.ERASURE):
                break
        return found

    def _job(self, ready: int, budget: int, cap: int) -> Job:
        first, length = self._taken, self._length
        came = self._marks.of(first + length)
        # Shots of one frame, that lie in one piece in the ring.
        n = min(ready, (came.until - first) // length, self._ring.contiguous(first) // length)
        lossy = bool(self._losses or self._sweeps_lost)
        n = 1 if lossy else max(1, n)
        syndromes = self._ring.view(first, n * length).reshape(n, -1)
        n, events = self._affordable(syndromes, budget, cap)
        syndromes = syndromes[:n]
        self._taken = first + n * length
        if n == 1 and self._is_too_long(events, cap):
            decoder: CompiledWindow = NoCorrection(self.answer_bytes)
            flags = int(Flag.UNCERTAIN)
        else:
            decoder, flags = self._decoder(first, lossy)
        flags |= self._flags
        self._sweeps_lost.discard(first)
        tier = self._bank.tier
        return Job(self, first, self._window, decoder, syndromes, flags, came, tier, events)

    def _affordable(self, syndromes: Bytes, budget: int, cap: int) -> tuple[int, int]:
        """How many shots from the first to take together, and the events in them.

        Those that are too long are taken by themselves; see `Job.is_too_long`.
        """
        n = len(syndromes)
        if n == 1 or (budget >= NEVER and cap >= NEVER):
            return n, count_events(syndromes)
        counts = np.bitwise_count(syndromes).sum(axis=1, dtype=np.int64)
        most = int(counts.max())
        if self.cost.bound(most) * n <= budget and not self._is_too_long(most, cap):
            return n, int(counts.sum())
        events = counts.tolist()
        if self._is_too_long(events[0], cap):
            return 1, events[0]
        spent = self.cost.expect(events[0])
        for i in range(1, n):
            spent += self.cost.expect(events[i])
            if spent > budget or self._is_too_long(events[i], cap):
                n = i
                break
        return n, sum(events[:n])

    def _decoder(self, first: int, lossy: bool) -> tuple[CompiledWindow, int]:
        """What decodes a shot with what was lost in it, and flags that say so."""
        window = self._window
        if not lossy:
            return self._bank.get(window), 0
        erasures, ignored = erasures_of(self._losses, self.intake, self._bank, first, window)
        flags = int(Flag.ERASURE) if erasures else 0
        if ignored or first in self._sweeps_lost:
            flags |= int(Flag.ERASURE_IGNORED)
        return self._bank.get(window, erasures), flags

    def key(self, job: Job) -> WindowKey:
        """What a job's windows are looked up by."""
        return self._bank.key(job.window)

    def finish(self, job: Job, answers: Answers) -> None:
        """Take the answers to one of this stream's jobs."""
        n = len(job.syndrome)
        if answers.tiers is None:
            self._finish(job, 0, n, job.tier, answers)
            return
        # A block of commits names one tier.
        ends = [*(np.flatnonzero(np.diff(answers.tiers)) + 1).tolist(), n]
        for start, end in pairwise([0, *ends]):
            self._finish(job, start, end, Tier(int(answers.tiers[start])), answers)

    def _finish(self, job: Job, start: int, end: int, tier: Tier, answers: Answers) -> None:
        """Take the answers to some of a job's shots, from one place to another."""
        assert isinstance(job.shot, int)
        first = job.shot + start * self._length
        flags = np.full(end - start, job.flags, dtype=np.uint16)
        flags[~answers.feasible[start:end]] |= int(Flag.INFEASIBLE)
        confidence = answers.confidence
        self._done[first] = CommittedShots(
            -1,
            first,
            self._length,
            tier,
            flags,
            answers.bits[start:end, : self._frame_bytes],
            job.came,
            job.took,
            None if confidence is None else confidence[start:end],
        )

    def commits(self) -> list[CommittedShots]:
        """Take the commits that are next in order."""
        taken: list[CommittedShots] = []
        while (block := self._done.pop(self.retain_from, None)) is not None:
            block.window = self._next_window
            self._next_window += len(block.flags)
            self.retain_from += len(block.flags) * self._length
            taken.append(block)
        self._marks.forget(self.retain_from)
        self._losses.forget(self.retain_from)
        return taken
