"""Frames into detection events: what is checked, what is kept, what a loss leaves unknown."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import code, memory, with_sweeps, without_reset
from qdec.bits import Bytes, pack
from qdec.codes import Code
from qdec.errors import WireCode, WireError
from qdec.ingest import Intake, LossLog, ShotPosition

PLAIN = code(rounds=9)
SWEPT = Code.from_circuit(with_sweeps(memory(rounds=9)))
NO_RESET = Code.from_circuit(without_reset(memory(rounds=9)))


def sampled(circuit: stim.Circuit, shots: int) -> tuple[Bytes, Bytes]:
    """Measurement and detector records of the same shots, ``(shots * rounds, bytes)`` each."""
    made = Code.from_circuit(circuit)
    assert made.measurements is not None
    measured = circuit.compile_sampler(seed=4).sample(shots)
    rng = np.random.default_rng(4)
    sweeps = rng.integers(0, 2, (shots, circuit.num_sweep_bits)).astype(np.bool_)
    detectors = circuit.compile_m2d_converter().convert(
        measurements=measured, sweep_bits=sweeps, separate_observables=True, bit_packed=True
    )[0]
    raw = made.measurements.to_records(pack(measured), pack(sweeps))
    events = made.layout.to_records(detectors)
    return raw.reshape(-1, raw.shape[-1]), events.reshape(-1, events.shape[-1])


def positions(first: int, count: int, length: int) -> list[ShotPosition]:
    out = []
    while count:
        start = first % length
        n = min(count, length - start)
        out.append(ShotPosition(first - start, start, n, length))
        first, count = first + n, count - n
    return out


CIRCUITS = {
    "reset": memory(rounds=9),
    "no reset": without_reset(memory(rounds=9)),
    "sweep bits": with_sweeps(memory(rounds=9)),
}


@pytest.mark.parametrize("name", CIRCUITS)
@given(cuts=st.sets(st.integers(1, 59), max_size=20))
@settings(max_examples=25)
def test_frames_of_any_size_convert_as_stim_does(name: str, cuts: set[int]) -> None:
    circuit = CIRCUITS[name]
    raw, events = sampled(circuit, 6)
    intake = Intake(Code.from_circuit(circuit), raw=True, ring_rounds=80)
    edges = [0, *sorted(cuts), len(raw)]
    for a, b in itertools.pairwise(edges):
        got = intake.accept(raw[a:b], positions(a, b - a, 10))
        np.testing.assert_array_equal(got, events[a:b])


def test_detectors_pass_as_they_are() -> None:
    intake = Intake(PLAIN, raw=False, ring_rounds=16)
    records = np.zeros((10, 1), dtype=np.uint8)
    records[3] = 0xA5
    assert intake.accept(records, positions(0, 10, 10)) is records
    assert (intake.record_bytes, intake.lookback, intake.nbytes) == (1, 0, 0)


def test_a_model_says_nothing_of_measurements() -> None:
    model = Code.parse("dem", str(PLAIN.dem))
    Intake(model, raw=False, ring_rounds=16)
    with pytest.raises(WireError, match="give the circuit") as caught:
        Intake(model, raw=True, ring_rounds=16)
    assert caught.value.wire is WireCode.BAD_OPTION


@pytest.mark.parametrize("raw", [False, True], ids=["detectors", "raw"])
def test_every_padding_bit_of_every_round_is_checked(raw: bool) -> None:
    made = SWEPT if raw else PLAIN
    intake = Intake(made, raw=raw, ring_rounds=16)
    where = positions(0, 10, 10)
    assert made.measurements is not None
    refused = 0
    for r in range(10):
        for bit in range(8 * intake.record_bytes):
            records = np.zeros((10, intake.record_bytes), dtype=np.uint8)
            records[r, bit // 8] = 1 << bit % 8
            if raw:
                m = made.measurements
                used = bit < m.used_bits(r, 10)
                swept = bit - 8 * m.sweep_offset
                used |= r == 0 and 0 <= swept < m.num_sweep_bits
            else:
                used = bit < made.spacetime.detectors_in(r, 10)
            if used:
                intake.accept(records, where)
                continue
            refused += 1
            with pytest.raises(WireError) as caught:
                intake.accept(records, where)
            assert caught.value.wire is WireCode.BAD_BITS
            found = re.search(r"in round (\d+) or one of the (\d+) after", str(caught.value))
            assert found is not None
            assert int(found[1]) <= r <= int(found[1]) + int(found[2])
    assert refused >= 8


def test_padding_far_along_an_endless_stream() -> None:
    intake = Intake(PLAIN, raw=False, ring_rounds=16)
    records = np.full((1000, 1), 255, dtype=np.uint8)
    first = ShotPosition(0, 10**12, 1000, None)
    intake.accept(records, [first])  # interior rounds use all eight bits
    with pytest.raises(WireError):
        intake.accept(records, [ShotPosition(0, 10**12, 1000, 10**12 + 1000)])


def test_history_and_restore() -> None:
    """What a resumed stream is given makes the same detectors, with as little as that."""
    for name, circuit in CIRCUITS.items():
        raw, events = sampled(circuit, 2)
        made = Code.from_circuit(circuit)
        whole = Intake(made, raw=True, ring_rounds=40)
        whole.accept(raw, positions(0, 20, 10))
        for base in (0, 10):
            for boundary in range(base + 1, base + 10):
                history, sweep = whole.history(base, boundary)
                assert len(history) == min(whole.lookback, boundary - base) * whole.record_bytes
                again = Intake(made, raw=True, ring_rounds=40)
                again.restore(base, boundary, history, sweep)
                left = base + 10 - boundary
                got = again.accept(raw[boundary : boundary + left], positions(boundary, left, 10))
                np.testing.assert_array_equal(got, events[boundary : boundary + left], name)


def test_a_restore_of_the_wrong_size_is_refused() -> None:
    intake = Intake(SWEPT, raw=True, ring_rounds=16)
    history, sweep = bytes(intake.record_bytes), bytes(2)
    intake.restore(0, 1, history, sweep)
    for wrong in ((history + b"\0", sweep), (b"", sweep), (history, b""), (history, sweep * 2)):
        with pytest.raises(WireError) as caught:
            Intake(SWEPT, raw=True, ring_rounds=16).restore(0, 1, *wrong)
        assert caught.value.wire is WireCode.BAD_CURSOR
    with pytest.raises(WireError):
        Intake(PLAIN, raw=False, ring_rounds=16).restore(0, 1, b"\0", b"")


def test_sweep_bits_are_forgotten_with_their_shot() -> None:
    raw, _ = sampled(CIRCUITS["sweep bits"], 2)
    intake = Intake(SWEPT, raw=True, ring_rounds=40)
    intake.accept(raw[:15], positions(0, 15, 10))
    assert intake.history(0, 5)[1]
    intake.forget(0)
    assert intake.history(0, 5)[1] == b""
    assert intake.history(10, 12)[1]


def test_losses_are_remembered_by_round_and_pass_over_padding() -> None:
    intake = Intake(PLAIN, raw=False, ring_rounds=16)
    lost = np.zeros((10, 1), dtype=np.uint8)
    lost[0] = 0b0001_1000  # round 0 has four bits
    lost[9] = 0b1000_0001
    lost[5] = 0b0100_0000
    assert [intake.lost_bits(lost[r], r, 10) for r in (0, 5, 9)] == [[3], [6], [0]]
    assert intake.lost_bits(lost[5], 7, None) == [6]
    log = LossLog(16, 1)
    assert not log
    log.note(20, lost)
    assert [(r, plane[0]) for r, plane in log.between(21, 30)] == [(25, 0b0100_0000), (29, 0x81)]
    log.forget(26)
    assert [r for r, _ in log.between(0, 99)] == [29]
    log.forget(30)
    assert not log


def test_what_a_lost_bit_leaves_unknown() -> None:
    """Checked against Stim: flip the measurement and see what changes."""
    circuit = CIRCUITS["no reset"]
    made = NO_RESET
    assert made.measurements is not None
    intake = Intake(made, raw=True, ring_rounds=16)
    convert = circuit.compile_m2d_converter()
    sizes = [made.measurements.used_bits(r, 10) for r in range(10)]
    starts = np.cumsum([0, *sizes])
    for r in range(10):
        for bit in range(sizes[r]):
            measured = np.zeros((2, circuit.num_measurements), dtype=np.bool_)
            measured[1, starts[r] + bit] = True
            detectors, observables = convert.convert(
                measurements=measured, separate_observables=True
            )
            flipped = np.flatnonzero(detectors[0] ^ detectors[1])
            expected = {(int(made.layout.round_of[d]), int(made.layout.bit_of[d])) for d in flipped}
            erasure = intake.erasure(r, bit, 10)
            if not 1 <= len(expected) <= 2:
                assert erasure is None
                continue
            assert erasure is not None
            assert set(erasure.detectors) == expected
            flips = np.flatnonzero(observables[0] ^ observables[1])
            assert list(erasure.observables) == flips.tolist()
    events = Intake(PLAIN, raw=False, ring_rounds=16)
    erasure = events.erasure(4, 2, None)
    assert erasure is not None
    assert (erasure.detectors, erasure.observables) == (((4, 2),), ())
