"""Bits that were lost, and syndromes that nothing explains: flagged, and over with the window."""

from __future__ import annotations

import numpy as np
import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import memory, ring, without_reset
from helpers.lanes import Lane, Stream, config, same
from helpers.recordings import RECORDINGS, answers, bystander, recording
from qdec.bits import Bytes, unpack
from qdec.codes import Code
from qdec.commit import Flag
from qdec.config import StreamDefaults
from qdec.match import CLASSICAL, Tier
from qdec.match.offline import decode_shots
from qdec.windows import parse_geometry


def opened(circuit: stim.Circuit, lane: Lane | None = None, **options: object) -> Stream:
    stream = Stream(lane or Lane(), code=(str(circuit).encode(),))
    return stream.open(code="circuit", **options)


def quiet_raw(circuit: stim.Circuit) -> Bytes:
    """One shot of measurements in which nothing went wrong: ``(rounds, record_bytes)``."""
    code = Code.from_circuit(circuit)
    assert code.measurements is not None
    measured = circuit.without_noise().compile_sampler(seed=3).sample(1, bit_packed=True)
    return code.measurements.to_records(measured)[0]


def plane(like: Bytes, *marks: tuple[int, int]) -> Bytes:
    lost = np.zeros_like(like)
    for round_, bit in marks:
        lost[round_, bit // 8] |= 1 << bit % 8
    return lost


@pytest.mark.parametrize("windows", ["whole", "6,3"])
@pytest.mark.parametrize("tier", ["matching", "correlated"])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "no reset"])
def test_a_lost_measurement_that_read_wrong_does_no_harm(
    windows: str, tier: str, reset: bool
) -> None:
    """The same flips without the plane are taken for errors, at least sometimes."""
    circuit = memory(rounds=11, p=0.002)
    if not reset:
        circuit = without_reset(circuit)
    rounds = quiet_raw(circuit)
    rng = np.random.default_rng(8)
    believed = 0
    for r in range(11):
        lost = plane(rounds, *((r, int(b)) for b in rng.choice(8, 4, replace=False)))
        for marks in (lost, None):
            stream = opened(circuit, raw=True, windows=windows, tier=tier)
            assert stream.send(0, rounds ^ lost, lost=marks) is None
            rows = stream.collect()
            flagged = rows["flags"] & Flag.ERASURE != 0
            if marks is None:
                assert not flagged.any()
                believed += bool(rows["seam"].any() or rows["frame"].any())
                continue
            assert not rows["frame"][-1].any()
            assert flagged.any()
            assert not (rows["flags"] & (Flag.INFEASIBLE | Flag.ERASURE_IGNORED)).any()
    assert believed > 0 or windows == "whole"


def test_a_lost_data_readout_flips_the_frame_back() -> None:
    """What a final data measurement says about the observable is undone, if it was wrong."""
    circuit = memory(rounds=5, p=0.002)
    rounds = quiet_raw(circuit)
    convert = circuit.compile_m2d_converter()
    for qubit in range(9):
        measured = np.zeros((1, circuit.num_measurements), dtype=np.bool_)
        measured[0, circuit.num_measurements - 9 + qubit] = True
        _, flipped = convert.convert(measurements=measured, separate_observables=True)
        lost = plane(rounds, (5, qubit))
        stream = opened(circuit, raw=True, windows="whole")
        assert stream.send(0, rounds ^ lost, lost=lost) is None
        (row,) = stream.collect()
        assert row["flags"] == Flag.SHOT_END | Flag.ERASURE
        assert bool(row["frame"][0]) == bool(flipped[0, 0])


def test_losses_without_measurement_noise() -> None:
    """No mechanism spans two rounds, so nothing but the lost reading itself joins them.

    A seam that has no room for it must not stop the lane.
    """
    circuit = stim.Circuit.generated(
        "repetition_code:memory", distance=3, rounds=12, before_round_data_depolarization=0.01
    )
    lane = Lane()
    with bystander(lane):
        stream = opened(circuit, lane, raw=True, windows="4,2")
        rounds = quiet_raw(circuit)
        assert stream.send(0, rounds, lost=plane(rounds, (5, 0))) is None
        rows = stream.collect()
    assert rows["count"].sum() == len(rounds)
    hit = rows["flags"] & (Flag.ERASURE | Flag.ERASURE_IGNORED) != 0
    assert rows["first_round"][hit].tolist() == [2, 4, 6]  # all that see one of its detectors
    assert not rows["frame"].any()


def test_everything_lost() -> None:
    rec = recording("shots, windows")
    lane = Lane()
    with bystander(lane, "shots, whole"):
        stream = rec.open(lane)
        all_ones = np.full_like(rec.records, 255)  # padding bits of the plane do not matter
        assert stream.send(0, rec.records, lost=all_ones) is None
        rows = stream.collect()
    assert (rows["flags"] & Flag.ERASURE).all()
    assert rows["window"].tolist() == answers("shots, windows")["window"].tolist()
    assert lane.stats["erased"] == len(rows)


def test_more_losses_than_are_kept_count_are_admitted() -> None:
    """4096 lost bits of a window count; what is beyond is read as it came, and flagged."""
    circuit = memory(d=7, rounds=120, p=0.003)
    stream = opened(circuit, windows="100,90")
    assert stream.info is not None
    rounds = np.zeros((121, stream.info.record_bytes), dtype=np.uint8)
    lost = np.full_like(rounds, 255)
    assert stream.send(0, rounds[:100], lost=lost[:100]) is None
    rows = stream.collect()
    ignored = rows["flags"] & Flag.ERASURE_IGNORED != 0
    assert ignored.any()


def test_an_empty_plane_changes_nothing() -> None:
    for name in ("endless", "raw, no reset", "raw, sweep bits"):
        rec = recording(name)
        stream = rec.open(Lane())
        for first, end, last in rec.frames(0, [5, 17, 30, 31]):
            part = rec.records[first:end]
            assert stream.send(first, part, last=last, lost=np.zeros_like(part)) is None
        same(stream.collect(), answers(name))


@pytest.mark.parametrize("name", RECORDINGS)
@given(data=st.data())
@settings(max_examples=8)
def test_losses_anywhere_are_flagged_where_they_count(name: str, data: st.DataObject) -> None:
    """Each window that sees a lost bit says so, the others do not; no window is missing."""
    rec = recording(name)
    stream = rec.open(Lane())
    assert stream.info is not None
    window = stream.info.window or rec.ends[0]
    at = data.draw(st.sets(st.integers(0, len(rec.records) - 1), min_size=1, max_size=3))
    lost = np.zeros_like(rec.records)
    lost[list(at), 0] = data.draw(st.integers(0, 7)) * 2 + 1  # bit 0 is never padding
    for first, end, last in rec.frames(0, data.draw(st.lists(st.integers(0, 99), max_size=4))):
        part = rec.records[first:end]
        assert stream.send(first, part, last=last, lost=lost[first:end]) is None
    rows = stream.collect()
    assert rows["window"].tolist() == answers(name)["window"].tolist()
    reach = stream.lane.core._sessions[stream.handle].decoder.intake.lookback
    for row in rows:
        start, count = int(row["first_round"]), int(row["count"])
        shot_end = next(e for e in rec.ends if e > start)
        end = min(start + window, shot_end)
        flagged = bool(row["flags"] & (Flag.ERASURE | Flag.ERASURE_IGNORED))
        if any(start <= r < end - reach for r in at):
            assert flagged
        if not any(start - reach <= r < end for r in at):
            assert not flagged
        assert count > 0


def no_boundary() -> tuple[stim.Circuit, Bytes]:
    """A code in which events come in pairs, and an endless stream with one that has no partner."""
    circuit = ring(rounds=12)
    rounds = np.zeros((61, 1), dtype=np.uint8)
    rounds[30] = 0b0001
    rounds[40] = 0b0110
    return circuit, rounds


def test_an_infeasible_syndrome_is_flagged_and_over_with_its_window() -> None:
    circuit, rounds = no_boundary()
    lane = Lane()
    with bystander(lane):
        stream = opened(circuit, lane, windows="6,3", endless=True)
        # An open end can take a lone event until it is committed; so close the shot there.
        assert stream.send(0, rounds[:33], last=True) is None
        bad = stream.collect()
        assert stream.send(33, rounds[33:], last=True) is None
        rest = stream.collect()
    infeasible = bad["flags"] & Flag.INFEASIBLE != 0
    assert infeasible.tolist() == [False] * (len(bad) - 1) + [True]
    assert lane.stats["infeasible"] == 1
    assert not (rest["flags"] & Flag.INFEASIBLE).any()
    assert rest["window"][0] == bad["window"][-1] + 1
    alone = opened(circuit, windows="6,3", endless=True)
    assert alone.send(0, rounds[33:], last=True) is None
    undisturbed = alone.collect()
    np.testing.assert_array_equal(undisturbed["frame"], rest["frame"])
    np.testing.assert_array_equal(undisturbed["seam"], rest["seam"])


@pytest.mark.parametrize("windows", ["whole", "6,3"])
@pytest.mark.parametrize("tier", CLASSICAL)
def test_infeasible_shots_among_others_in_one_batch(windows: str, tier: Tier) -> None:
    """PyMatching refuses the whole batch for one such shot; the others get their own answers."""
    circuit = ring(rounds=12)
    code = Code.from_circuit(circuit)
    shots = code.layout.to_records(
        circuit.compile_detector_sampler(seed=2).sample(19, bit_packed=True)
    )
    odd = shots.copy()
    odd[7, 6] ^= 1
    odd[13, 0] ^= 2
    geometry = parse_geometry(windows)
    assert geometry != "auto"
    stream = opened(circuit, windows=windows, tier=tier.label)
    assert stream.send(0, odd.reshape(-1, 1)) is None
    rows = stream.collect()
    frames, feasible = decode_shots(code, tier, geometry, odd)
    assert np.flatnonzero(~feasible).tolist() == [7, 13]
    ends = rows["flags"] & Flag.SHOT_END != 0
    np.testing.assert_array_equal(rows["frame"][ends], frames)
    shot_of = rows["first_round"] // len(odd[0])
    hit = rows["flags"] & Flag.INFEASIBLE != 0
    assert sorted(set(shot_of[hit].tolist())) == [7, 13]
    assert hit.sum() == 2 == stream.lane.stats["infeasible"]
    healthy, _ = decode_shots(code, tier, geometry, shots)
    others = np.setdiff1d(np.arange(19), [7, 13])
    np.testing.assert_array_equal(frames[others], healthy[others])
    assert unpack(healthy, 1).any()


def test_answers_with_many_losses_do_not_depend_on_when_they_were_decoded() -> None:
    """More lost bits in flight than any window has: what a window is told is its own."""
    rounds, lost = np.random.default_rng(4).integers(0, 256, (2, 1100, 1), dtype=np.uint8)
    rounds[0] &= 0x0F
    answered = []
    for step in (100, 1100):
        roomy = StreamDefaults(deadline_us=1_000_000_000, ring_rounds=2048)
        lane = Lane(config().model_copy(update={"defaults": roomy}))
        stream = opened(memory(rounds=12, p=0.01), lane, endless=True, windows="20,15")
        taken = []
        for at in range(0, 1100, step):
            part = slice(at, at + step)
            assert stream.send(at, rounds[part], lost=lost[part]) is None
            taken.append(stream.collect())
        answered.append(np.concatenate(taken))
    same(*answered)
    assert (answered[0]["flags"] == Flag.ERASURE).all()


def test_a_shot_without_its_sweep_bits_says_so_after_a_resume_too() -> None:
    rec = recording("raw, sweep bits")
    whole, cursors = [], []
    lost = np.zeros_like(rec.records[: rec.ends[0]])
    lost[0, -1] = 1
    stream = rec.open(Lane())
    for at in range(rec.ends[0]):
        row = slice(at, at + 1)
        assert stream.send(at, rec.records[row], lost=lost[row]) is None
        rows = stream.collect()
        if len(rows):
            whole.append(rows)
            cursors.append((stream.cursor, stream.retain_from))
    assert all((rows["flags"] & Flag.ERASURE_IGNORED).all() for rows in whole)
    for n, (cursor, first) in enumerate(cursors[:-1], start=1):
        again = rec.open(Lane(), cursor=cursor)
        assert again.send(first, rec.records[first : rec.ends[0]]) is None
        same(again.collect(), np.concatenate(whole[n:]))
