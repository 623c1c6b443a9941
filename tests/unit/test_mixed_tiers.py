"""Tiers that take turns within a stream, as an accelerator that is late has them do: seams fit.

What a window is handed by the one before is a syndrome like any other, whoever committed it. So a
stream whose windows are answered by tiers drawn at random fails as often as those tiers do, and not
more often than the worst of them; and it loses no single fault, wherever it lies to the seams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.codes import Code
from qdec.match import CLASSICAL, SOFT, CompiledWindow, Tier, compile_window
from qdec.match.gate import try_faults
from qdec.match.replay import Replay
from qdec.windows import Geometry, Window, window_at
from qdec.windows.cut import answer_bytes, carry_seam
from qdec_tools.circuits import memory

D, P = 5, 0.006
ROUNDS = 3 * D
GEOMETRY = Geometry(2 * D + 2, D)
TIERS = (*CLASSICAL, *SOFT)
SHOTS = 2000
BASES = ("surface_code:rotated_memory_z", "surface_code:rotated_memory_x")


@dataclass
class Mixed:
    """Decodes shots window by window, each window of each shot with a tier drawn for it.

    Attributes:
        drawn: the tiers of the last batch, ``(windows, shots)``.
    """

    code: Code
    tiers: tuple[Tier, ...]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    drawn: list[NDArray[np.int64]] = field(default_factory=list)
    _compiled: dict[tuple[int, ...], CompiledWindow] = field(default_factory=dict)

    def decode(self, records: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
        """See `RecordDecoder.decode`. Every answer is checked to be one to its window."""
        space = self.code.spacetime
        frame_bytes, seam_bytes = answer_bytes(space)
        shots, length, _ = records.shape
        there = exists(self.code)
        frames, seam = (
            np.zeros((shots, frame_bytes), np.uint8),
            np.zeros((shots, seam_bytes), np.uint8),
        )
        feasible = np.ones(shots, np.bool_)
        self.drawn = []
        start = 0
        while True:
            window = window_at(GEOMETRY, start, length)
            syndromes = records[:, window.start : window.end].reshape(shots, -1).copy()
            syndromes[:, :seam_bytes] ^= seam
            who = np.array(self.tiers)[self.rng.integers(len(self.tiers), size=shots)]
            self.drawn.append(who)
            bits = np.zeros((shots, frame_bytes + seam_bytes), np.uint8)
            for tier in self.tiers:
                rows = np.flatnonzero(who == tier)
                answers = self._window(tier, window).decode(syndromes[rows])
                bits[rows], feasible[rows] = answers.bits, feasible[rows] & answers.feasible
            frames ^= bits[:, :frame_bytes]
            if window.closes:
                assert not bits[:, frame_bytes:].any(), "nothing is left over at a shot's end"
                return frames, feasible
            start += window.commit
            behind = there[start : start + space.span].reshape(-1)
            assert not (bits[:, frame_bytes:] & ~behind).any(), "a seam of detectors that are not"
            seam = carry_seam(space, window, seam, bits[:, frame_bytes:])

    def _window(self, tier: Tier, window: Window) -> CompiledWindow:
        key = (tier, *window)
        if key not in self._compiled:
            self._compiled[key] = compile_window(self.code, tier, GEOMETRY, window)
        return self._compiled[key]


def exists(code: Code) -> Bytes:
    """``(rounds, record_bytes)``: the bits of a shot's records that are detectors."""
    ones = np.full((1, (code.dem.num_detectors + 7) // 8), 255, np.uint8)
    return code.layout.to_records(ones)[0]


def code_of(basis: str) -> Code:
    return Code.from_circuit(memory(D, ROUNDS, P, basis))


@pytest.mark.parametrize("basis", BASES)
def test_turns_cost_nothing(basis: str) -> None:
    """The failures are those of the tiers: no more than of the worst, no fewer than of the best."""
    code = code_of(basis)
    events, flips, _ = code.dem.compile_sampler(seed=11).sample(SHOTS, bit_packed=True)
    records = code.layout.to_records(events)

    def wrong(*tiers: Tier) -> NDArray[np.bool_]:
        frames, feasible = Mixed(code, tiers).decode(records)
        assert feasible.all()
        return (frames != flips).any(axis=1)

    mixed = wrong(*TIERS)
    alone = {tier: wrong(tier) for tier in TIERS}
    by_count = sorted(alone.values(), key=lambda one: int(one.sum()))
    best, worst = by_count[0], by_count[-1]
    assert best.sum() > 30, "enough to tell"
    for more, less in ((mixed, worst), (best, mixed)):
        spread = math.sqrt(int((more ^ less).sum()))
        assert int(more.sum()) - int(less.sum()) <= 3 * spread


@pytest.mark.parametrize("basis", BASES)
def test_no_single_fault_is_lost_between_tiers(basis: str) -> None:
    """As none is by any of these tiers alone."""
    code = code_of(basis)
    report = try_faults(code, Mixed(code, TIERS), name="turns")
    assert not report.sampled
    assert report.failed == 0, report.first_failure


def test_a_replay_of_the_record_answers_the_same() -> None:
    """Shot by shot, as the service's commits are checked."""
    code = code_of(BASES[0])
    events, _, _ = code.dem.compile_sampler(seed=12).sample(20, bit_packed=True)
    records = code.layout.to_records(events)
    mixed = Mixed(code, TIERS)
    frames, _ = mixed.decode(records)
    replay = Replay(code, GEOMETRY)
    commits = [D] * (len(mixed.drawn) - 1)
    commits.append(records.shape[1] - sum(commits))
    for shot, one in enumerate(records):
        tiers = [Tier(int(drawn[shot])) for drawn in mixed.drawn]
        *_, last = replay.shot(one, zip(tiers, commits, strict=True))
        np.testing.assert_array_equal(last.frame, frames[shot])
