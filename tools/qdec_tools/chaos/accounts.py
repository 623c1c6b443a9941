"""What became of a stream's windows: answered, lost, repeated, wrong, late, by which tier.

The judge is an offline replay. Each commit carries the frame and the seam behind it, so every
window is decoded again by itself, from what the commit before it has on record and with the tier
that is on record for it: one wrong answer makes none of those behind it wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from qdec.bits import Bytes
from qdec.client import Commits
from qdec.codes import Part
from qdec.commit import Flag
from qdec.commit.dense import answered_by
from qdec.errors import DataError
from qdec.match import Tier
from qdec.match.replay import Replay, Replayed
from qdec.match.tier import CompiledWindow
from qdec.windows import Geometry, choose_geometry, parse_geometry
from qdec.windows.geometry import Window, window_at
from qdec_tools.chaos.patches import Patch

# Spans of time (ns) in which a network's output was not its own.
Spans = Sequence[tuple[int, int]]


@dataclass
class Account:
    """Windows of one stream, or of several together.

    Attributes:
        sent: complete windows of the rounds that were sent.
        answered: of those, delivered (once or more).
        lost: never delivered, or behind a later one.
        twice: deliveries of a window that had been delivered.
        wrong: delivered, and not what the replay says.
        late: delivered after their deadline, by the lane's own flag.
        preempted: of the late, those that the operating system delayed.
        erased: delivered as if rounds had been lost, though the client holds them all.
        by_tier: what answered.
    """

    sent: int = 0
    answered: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    late: int = 0
    preempted: int = 0
    erased: int = 0
    by_tier: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Account) -> Account:
        """Both together."""
        names = ("sent", "answered", "lost", "twice", "wrong", "late", "preempted", "erased")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Account(**sums, by_tier=self.by_tier + other.by_tier)

    @property
    def clean(self) -> bool:
        """Whether nothing is lost, repeated or wrong."""
        return not (self.lost or self.twice or self.wrong)


class Judge:
    """Holds a stream's commits against a replay of its rounds."""

    def __init__(
        self,
        patch: Patch,
        garble: Callable[[CompiledWindow], None] | None = None,
        garbled: Spans = (),
    ) -> None:
        """Remember what to compile.

        Args:
            patch: the stream.
            garble: does to a decoder what a fault did to the accelerator's.
            garbled: when it did; a window sent then may be answered either way.
        """
        self._patch = patch
        self._length = patch.length
        wish = parse_geometry(patch.windows)
        self._geometry = choose_geometry(wish, patch.code, endless=patch.endless)
        shared = len(patch.lanes) > 1
        parts = patch.code.split(len(patch.lanes)) if shared else ()
        self._replay = Replay(patch.code, self._geometry, parts=parts)
        self._other = None
        if garble is not None and garbled:
            self._other = _Garbled(garble, patch, self._geometry)
        self._garbled = garbled

    def account(
        self, rows: Commits, detectors: Bytes, on_wrong: Callable[[str], None] = lambda _: None
    ) -> Account:
        """Count a stream's windows.

        Args:
            rows: the commit records that its client was handed, in that order.
            detectors: ``(rounds, record_bytes)`` uint8: of all rounds that the client sent.
            on_wrong: told about each wrong answer.
        """
        found = Account()
        seen: set[int] = set()
        expected = covered = 0
        before: Replayed | None = self._replay.beginning
        for row in rows:
            window, first, count = int(row["window"]), int(row["first_round"]), int(row["count"])
            if window in seen:
                found.twice += 1
                continue
            seen.add(window)
            if window < expected:  # behind a later one: it was missed when that came
                continue
            found.lost += window - expected
            self._note(found, row)
            if first != covered:
                before = None  # what it was handed is not known
            answer = Replayed(row["frame"], row["seam"], True)
            begins = first % self._length == 0 if self._length else first == 0
            handed = self._replay.beginning if begins else before
            if window == expected and first != covered:
                found.wrong += 1
                on_wrong(f"window {window} commits round {first} behind round {covered}")
            elif handed is not None and not self._is_right(row, detectors, handed):
                found.wrong += 1
                tier = Tier(int(row["tier"])).label
                flags = Flag(int(row["flags"]))
                on_wrong(f"window {window}, rounds {first} to {first + count}, {tier}, {flags!r}")
            expected, covered, before = window + 1, first + count, answer
        found.answered = sum(found.by_tier.values())
        found.lost += self._windows(covered, len(detectors))
        found.sent = found.answered + found.lost
        return found

    def _note(self, found: Account, row: np.void) -> None:
        flags = int(row["flags"])
        found.by_tier[Tier(int(row["tier"])).label] += 1
        found.late += flags & Flag.LATE != 0
        found.preempted += flags & Flag.PREEMPTED != 0
        found.erased += flags & (Flag.ERASURE | Flag.ERASURE_IGNORED) != 0

    def _is_right(self, row: np.void, detectors: Bytes, handed: Replayed) -> bool:
        first, count = int(row["first_round"]), int(row["count"])
        tier = answered_by(int(row["tier"]), int(row["flags"]))
        base = first - first % self._length if self._length else 0
        shot = detectors[base : base + self._length] if self._length else detectors
        replays = [self._replay]
        if self._other is not None and tier is not None and tier.accelerated:
            sent = int(row["t_send"])
            if any(begin <= sent <= end for begin, end in self._garbled):
                replays.append(self._other)
        for replay in replays:
            try:
                again = replay.window(shot, first - base, tier, count, handed)
            except DataError:
                return False
            if np.array_equal(again.frame, row["frame"]) and np.array_equal(
                again.seam, row["seam"]
            ):
                return True
        return False

    def _windows(self, start: int, end: int) -> int:
        """Windows that rounds from one to another make."""
        count = 0
        while start < end:
            base = start - start % self._length if self._length else 0
            length = self._length or end
            start += window_at(self._geometry, start - base, length).commit
            count += 1
        return count


class _Garbled(Replay):
    """A replay whose networks say something else."""

    def __init__(
        self, garble: Callable[[CompiledWindow], None], patch: Patch, geometry: Geometry
    ) -> None:
        super().__init__(patch.code, geometry)
        self._garble = garble

    def compile(self, window: Window, tier: Tier, part: Part | None) -> CompiledWindow:
        """See `Replay.compile`."""
        decoder = super().compile(window, tier, part)
        self._garble(decoder)
        return decoder
