"""An endless stream of a code's detection events, with the exact truth behind it.

The instructions that start in one round form a small detector error model of their own, whose
detectors lie in that round and the few behind it. B shots of that model are what fires in B rounds
of the same class, so one call of Stim's sampler makes thousands of rounds, and round r of the
stream is the XOR of what the rounds up to `reach` before it threw into it.

Components, not instructions, are what a decoder commits: each by the round of its own earliest
detector. So samples are kept apart by that round. With `E[r]` the effect of all components whose
first round is r (the observables they flip, and their detectors in rounds r, r+1, ..., r+span)::

    record(r) = XOR over s of E[r - s].detectors[s]
    frame(a)  = XOR over r < a of E[r].observables
    seam(a)   = XOR over r < a of E[r].detectors in rounds a and later

`frame(a)` and `seam(a)` are what a perfect decoder would have committed at boundary a.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import stim
from numpy.typing import NDArray

from qdec.bits import Bytes, num_bytes
from qdec.codes import Code
from qdec.codes.spacetime import Components, SpaceTime
from qdec.errors import CodeError, GeometryError


class _Columns:
    """Where a one-round sample holds what: for each offset f, the effect of round f behind it.

    An effect is `frame_bytes` of observables, then the detectors as `span + 1` round records.
    The parts of a sample are cut to the leading bytes that anything can flip.
    """

    def __init__(self, space: SpaceTime) -> None:
        self.frame_bytes = num_bytes(space.num_observables)
        self.record_bytes = space.layout.record_bytes
        self.span, self.reach = space.span, space.reach
        self.effect_bytes = self.frame_bytes + (space.span + 1) * self.record_bytes
        rounds = [
            *range(space.head + space.period),
            *range(space.rounds - space.tail, space.rounds),
        ]
        deepest = [-1] * (space.reach + 1)
        for r in rounds:
            c = space.starting_in(r, space.rounds)
            for f in range(space.reach + 1):
                depth = (c.last_round - f)[c.first_round == f]
                deepest[f] = max(deepest[f], int(depth.max(initial=-1)))
        widths = [self.frame_bytes + (s + 1) * self.record_bytes if s >= 0 else 0 for s in deepest]
        self.widths = widths
        self.starts = [sum(widths[:f]) for f in range(len(widths))]
        self.sample_bytes = sum(widths)

    def records(self, s: int) -> slice:
        """Columns of an effect that hold the detectors `s` rounds on."""
        start = self.frame_bytes + s * self.record_bytes
        return slice(start, start + self.record_bytes)

    def model(self, c: Components) -> stim.DetectorErrorModel:
        """The detector error model of one round; its detector k is bit k of the sample."""
        flips: list[set[int]] = [set() for _ in range(int(c.group.max(initial=-1)) + 1)]
        p = np.zeros(len(flips))
        p[c.group] = c.p
        firsts = c.first_round.tolist()
        for k, (group, f) in enumerate(zip(c.group.tolist(), firsts, strict=True)):
            base = 8 * self.starts[f]
            bits = {base + int(o) for o in c.obs[c.obs_ptr[k] : c.obs_ptr[k + 1]]}
            for r, b in ((c.u_round[k], c.u_bit[k]), (c.v_round[k], c.v_bit[k])):
                if r >= 0:
                    bits ^= {base + 8 * self.records(int(r) - f).start + int(b)}
            flips[group] ^= bits
        lines = [
            f"error({p_!r})" + "".join(f" D{bit}" for bit in sorted(bits))
            for p_, bits in zip(p.tolist(), flips, strict=True)
            if bits
        ]
        return stim.DetectorErrorModel(
            "\n".join([*lines, f"detector D{8 * self.sample_bytes - 1}"])
        )

    def effects(self, samples: Bytes) -> Bytes:
        """``(n + reach, sample_bytes)`` of consecutive rounds → effects of the last n rounds."""
        count = len(samples) - self.reach
        out = np.zeros((count, self.effect_bytes), dtype=np.uint8)
        for f, (start, width) in enumerate(zip(self.starts, self.widths, strict=True)):
            first = self.reach - f
            out[:, :width] ^= samples[first : first + count, start : start + width]
        return out

    def detectors(self, effects: Bytes) -> Bytes:
        """``(n + span, effect_bytes)`` of consecutive rounds → records of the last n rounds."""
        count = len(effects) - self.span
        out = np.zeros((count, self.record_bytes), dtype=np.uint8)
        for s in range(self.span + 1):
            out ^= effects[self.span - s : self.span - s + count, self.records(s)]
        return out


@dataclass(frozen=True, slots=True)
class _Block:
    """Consecutive rounds from `first` on: their records and effects."""

    first: int
    records: Bytes
    effects: Bytes

    @property
    def end(self) -> int:
        """One past the last round."""
        return self.first + len(self.effects)


class EndlessSampler:
    """The detection events of a code that never stops, and what really happened.

    The same code, seed and chunk give the same stream however it is asked for, on one machine and
    version of Stim (whose seeds promise no more).

    Args:
        code: a code with a repeating round.
        seed: 0 or more.
        chunk: rounds sampled at once.
        track: keep what `truth` needs. It costs memory for every round since the last boundary
            asked for; without it an endless run needs none.

    Raises:
        GeometryError: nothing repeats in the code, so it cannot be stretched.
        CodeError: the code has components that flip observables and no detector, so the truth
            would miss them; only with `track`.
    """

    def __init__(self, code: Code, seed: int, *, chunk: int = 4096, track: bool = True) -> None:
        """Compile one Stim sampler per class of rounds, as they are met."""
        space = code.spacetime
        if space.period == 0:
            raise GeometryError("the code has no repeating round, so it gives no endless stream")
        if track and (hidden := code.undetectable):
            raise CodeError(
                f"{hidden} components flip no detector: nothing tells when they happen, so an "
                "endless stream of this code has no exact truth (track=False does without)"
            )
        self._space = space
        self._seed = seed
        self._track = track
        self._chunk = -(-max(1, chunk) // space.period)
        self._columns = _Columns(space)
        self._samplers: dict[int, stim.CompiledDemSampler] = {}
        self.restart()

    def restart(self) -> None:
        """Begin a new shot: round 0 again, other noise."""
        # Rounds before the first threw nothing; keeping them as zeros spares every special case.
        margin = self._columns.reach + self._columns.span
        self._samples: Bytes = np.zeros((margin, self._columns.sample_bytes), dtype=np.uint8)
        self._sampled = 0
        self._block = self._build(0, self._samples)
        self._position = 0
        self._closed = False
        self._history: deque[_Block] = deque()
        self._asked = 0
        self._frame: Bytes = np.zeros(self._columns.frame_bytes, dtype=np.uint8)

    @property
    def position(self) -> int:
        """Rounds of the shot handed out so far."""
        return self._position

    def next(self, count: int) -> Bytes:
        """The next `count` rounds of the stream: ``(count, record_bytes)`` uint8.

        Raises:
            ValueError: the shot has been closed.
        """
        if self._closed:
            raise ValueError("the shot is closed: restart() begins another")
        parts = []
        end = self._position + count
        while self._position < end:
            if self._position == self._block.end:
                self._sample_block()
            first = self._block.first
            part = self._block.records[self._position - first : end - first]
            parts.append(part)
            self._position += len(part)
        if len(parts) == 1:
            return parts[0].copy()
        return np.concatenate([np.zeros((0, self._columns.record_bytes), np.uint8), *parts])

    def close(self, length: int | None = None) -> Bytes:
        """End the shot at `length` rounds: the rounds that remain, the last ones the tail's.

        Args:
            length: rounds of the whole shot; by default the fewest that the code allows.

        Returns:
            ``(length - position, record_bytes)`` uint8.

        Raises:
            ValueError: the shot has been closed, or rounds that belong to the tail of a shot this
                long were already handed out.
            GeometryError: the code cannot be stretched to this length.
        """
        if self._closed:
            raise ValueError("the shot is closed: restart() begins another")
        tail = self._space.tail
        least = max(self._position, self._space.head) + tail
        if length is None:
            length = least + (self._space.rounds - least) % self._space.period
        if not self._space.fits(length):
            raise GeometryError(f"no shot of this code has {length} rounds")
        if length - tail < self._position:
            raise ValueError(
                f"{self._position} rounds are out, so a shot has at least {least} rounds"
            )
        steady = self.next(length - tail - self._position)
        at = self._position
        margin = self._columns.reach + self._columns.span
        behind = at - self._block.first
        ends = [self._draw(r, length, 1) for r in range(at, length)]
        last = self._build(at, np.concatenate([self._samples[behind : behind + margin], *ends]))
        if self._track:
            # What was sampled ahead of the tail never happened.
            if self._history:
                ahead = self._history.pop()
                self._history.append(_Block(ahead.first, ahead.records, ahead.effects[:behind]))
            self._history.append(last)
        self._position = length
        self._closed = True
        return np.concatenate([steady, last.records])

    def truth(self, boundary: int) -> tuple[bytes, bytes]:
        """What a perfect decoder has committed when everything before round `boundary` is final.

        Args:
            boundary: a round in ``[last boundary asked for, position]``.

        Returns:
            The frame since the shot's start (``ceil(num_observables / 8)`` bytes) and the seam
            (`span` round records: the detectors in rounds `boundary`, ... that components with
            an earlier first round flip), laid out as in the service's answers.

        Raises:
            ValueError: the boundary is out of range, or the sampler keeps no truth.
        """
        frames, seams = self.truths(np.array([boundary]))
        return frames[0].tobytes(), seams[0].tobytes()

    def truths(self, boundaries: NDArray[np.int64]) -> tuple[Bytes, Bytes]:
        """`truth` of several boundaries at once, far cheaper than one by one.

        Args:
            boundaries: ``(k,)`` rounds, non-decreasing, in ``[last boundary asked for, position]``.

        Returns:
            ``(k, frame_bytes)`` and ``(k, seam_bytes)`` uint8.

        Raises:
            ValueError: a boundary is out of range, or the sampler keeps no truth.
        """
        if not self._track:
            raise ValueError("the sampler was made without track=True and keeps no truth")
        ordered = [self._asked, *boundaries.tolist(), self._position]
        if ordered != sorted(ordered):
            raise ValueError(
                f"boundaries {boundaries} are outside [{self._asked}, {self._position}] "
                "or in disorder: they are asked for in increasing order, as far as handed out"
            )
        columns = self._columns
        start, end = self._asked, int(boundaries[-1])
        effects = np.zeros((columns.span + end - start, columns.effect_bytes), dtype=np.uint8)
        at = max(0, columns.span - start)  # rounds before the first flip nothing
        for part in self._effects(start - columns.span, end):
            effects[at : at + len(part)] = part
            at += len(part)
        flips = effects[columns.span :, : columns.frame_bytes]
        upto = np.concatenate([self._frame[None], self._frame ^ _running_xor(flips)])
        frames = upto[boundaries - start]
        seams = np.zeros((len(boundaries), columns.span * columns.record_bytes), dtype=np.uint8)
        for back in range(1, columns.span + 1):
            late = effects[boundaries - start + columns.span - back, columns.records(back).start :]
            seams[:, : late.shape[1]] ^= late
        self._frame = frames[-1].copy()
        self._asked = end
        while self._history and self._history[0].end <= end - columns.span:
            self._history.popleft()
        return frames, seams

    @property
    def kept_rounds(self) -> int:
        """Rounds of history in memory."""
        return sum(len(block.effects) for block in self._history)

    def _effects(self, start: int, end: int) -> Iterator[Bytes]:
        for block in self._history:
            part = block.effects[max(0, start - block.first) : max(0, end - block.first)]
            if len(part):
                yield part

    def _draw(self, round_: int, length: int | None, count: int) -> Bytes:
        """``(count, sample_bytes)``: what `count` rounds of the class of `round_` throw."""
        class_ = self._space.class_of(round_, length)
        if class_ not in self._samplers:
            seed = np.random.SeedSequence([self._seed, class_]).generate_state(1, np.uint64)
            model = self._columns.model(self._space.starting_in(round_, length))
            self._samplers[class_] = model.compile_sampler(seed=int(seed[0]))
        sampled: Bytes = self._samplers[class_].sample(count, bit_packed=True)[0]
        return sampled

    def _sample_block(self) -> None:
        """Sample the next rounds; the first block also has the head."""
        space = self._space
        first = self._sampled
        heads = [self._draw(r, None, 1) for r in range(space.head)] if first == 0 else []
        start = max(first, space.head)
        period = np.stack(
            [self._draw(start + i, None, self._chunk) for i in range(space.period)], axis=1
        ).reshape(-1, self._columns.sample_bytes)
        margin = self._columns.reach + self._columns.span
        kept = self._samples[len(self._samples) - margin :]
        self._samples = np.concatenate([kept, *heads, period])
        self._sampled = first + len(self._samples) - margin
        self._block = self._build(first, self._samples)
        if self._track:
            self._history.append(self._block)

    def _build(self, first: int, samples: Bytes) -> _Block:
        effects = self._columns.effects(samples)
        return _Block(first, self._columns.detectors(effects), effects[self._columns.span :])


def _running_xor(rows: Bytes) -> Bytes:
    return np.bitwise_xor.accumulate(rows, axis=0) if len(rows) else rows


class LogicalErrors:
    """Counts logical errors along a stream that never ends, where no final readout says so.

    At a boundary a, let ``residual(a) = committed frame(a) XOR true frame(a)``. Where the
    committed seam equals the true seam the boundary is *closed*: what was committed and what
    happened then differ by cycles only, so the residual is the logical class of a closed
    difference, and both continue from the same state. A logical error is a change of an
    observable's residual between successive closed boundaries (before round 0 it is zero).

    Errors in pairs cancel between two boundaries. With `errors` changes of one observable over
    `intervals` of n rounds on average, the error rate per round e follows from
    ``errors / intervals = (1 - (1 - 2e)^n) / 2``.

    Attributes:
        errors: logical errors so far, over all observables.
        boundaries: boundaries observed.
        intervals: closed ones among them.
        rounds: the last closed boundary.
    """

    def __init__(self, truth: Callable[[int], tuple[bytes, bytes]]) -> None:
        """Compare with `truth` (`EndlessSampler.truth`)."""
        self._truth = truth
        self._residual: Bytes | None = None
        self.errors = 0
        self.boundaries = 0
        self.intervals = 0
        self.rounds = 0
        self._since = 0

    def forget(self) -> None:
        """Count from the last closed boundary on."""
        self.errors = self.boundaries = self.intervals = 0
        self._since = self.rounds

    def observe(self, boundary: int, frame: bytes, seam: bytes) -> int:
        """Compare what was committed at a boundary with the truth.

        Args:
            boundary: a round of the shot; boundaries only increase.
            frame: the committed frame since the shot's start.
            seam: the committed seam, `span` round records.

        Returns:
            New logical errors: 0 also where the boundary is not closed.

        Raises:
            ValueError: frame or seam has the wrong size, or as `EndlessSampler.truth`.
        """
        true_frame, true_seam = self._truth(boundary)
        if len(frame) != len(true_frame) or len(seam) != len(true_seam):
            raise ValueError(
                f"a frame has {len(true_frame)} bytes and a seam {len(true_seam)}, "
                f"not {len(frame)} and {len(seam)}"
            )
        return self._count(
            np.array([boundary]),
            np.frombuffer(frame, dtype=np.uint8)[None],
            np.frombuffer(seam, dtype=np.uint8)[None],
            np.frombuffer(true_frame, dtype=np.uint8)[None],
            np.frombuffer(true_seam, dtype=np.uint8)[None],
        )

    def observe_many(
        self,
        boundaries: NDArray[np.int64],
        frames: Bytes,
        seams: Bytes,
        truths: tuple[Bytes, Bytes],
    ) -> int:
        """`observe` of several boundaries at once.

        Args:
            boundaries: ``(k,)`` rounds, increasing.
            frames, seams: ``(k, ...)`` uint8, as committed.
            truths: the same of the truth (`EndlessSampler.truths`).
        """
        return self._count(boundaries, frames, seams, *truths)

    def _count(
        self,
        boundaries: NDArray[np.int64],
        frames: Bytes,
        seams: Bytes,
        true_frames: Bytes,
        true_seams: Bytes,
    ) -> int:
        self.boundaries += len(boundaries)
        closed = (seams == true_seams).all(axis=1)
        if not closed.any():
            return 0
        residuals = (frames ^ true_frames)[closed]
        before = np.zeros_like(residuals[:1]) if self._residual is None else self._residual
        changes = residuals ^ np.concatenate([before, residuals[:-1]])
        new = int(np.unpackbits(changes).sum())
        self._residual = residuals[-1:]
        self.errors += new
        self.intervals += int(closed.sum())
        self.rounds = int(boundaries[closed][-1])
        return new

    def rate(self, observables: int = 1) -> float:
        """Estimated logical errors per round and observable; NaN before a boundary closed."""
        if self.intervals == 0:
            return float("nan")
        changed = self.errors / (self.intervals * observables)
        interval = (self.rounds - self._since) / self.intervals
        return float((1 - max(0.0, 1 - 2 * changed) ** (1 / interval)) / 2)
