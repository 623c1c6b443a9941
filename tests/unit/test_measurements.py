"""Raw measurements, converted as they stream in, give bit for bit what Stim gives for the shot."""

from __future__ import annotations

import numpy as np
import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import (
    REPETITION,
    ROTATED_X,
    ROTATED_Z,
    inverted,
    memory,
    rewritten,
    ring,
    stim_conversion,
    two_patches,
    with_sweeps,
    without_reset,
)
from helpers.google import experiment
from qdec.bits import Bits, Bytes, pack, unpack
from qdec.codes import Code
from qdec.errors import DataError


def flipped_reference(circuit: stim.Circuit) -> stim.Circuit:
    """All data qubits start in |1>: the noiseless readout is not all zeros."""
    return rewritten(
        circuit, R=lambda i: f"{i}\nX {' '.join(str(t.value) for t in i.targets_copy())}"
    )


CIRCUITS = {
    "with reset": memory(ROTATED_Z, 3, 9),
    "X basis": memory(ROTATED_X, 3, 9),
    "repetition": memory(REPETITION, 5, 9),
    "ring": ring(rounds=9),
    "two patches": two_patches(memory(ROTATED_Z, 3, 9)),
    "without reset": without_reset(memory(ROTATED_Z, 3, 9)),
    "repetition without reset": without_reset(memory(REPETITION, 3, 9)),
    "sweep bits": with_sweeps(memory(ROTATED_Z, 3, 9)),
    "sweep bits without reset": with_sweeps(without_reset(memory(ROTATED_Z, 3, 9))),
    "sweep bits inverted": with_sweeps(inverted(memory(ROTATED_Z, 3, 9))),
    "inverted": inverted(memory(ROTATED_Z, 3, 9)),
    "inverted without reset": without_reset(inverted(memory(REPETITION, 3, 9))),
    "constants": flipped_reference(memory(REPETITION, 3, 9)),
    # Detectors of one measurement each, nothing to look back to; the last measurement is unused.
    "no history": stim.Circuit(
        "X 1\nX_ERROR(0.1) 0 1 2\nM 0 1 !2\n"
        + "".join(f"DETECTOR(0, 0, {r}) rec[{r - 3}]\n" for r in range(3))
        + "OBSERVABLE_INCLUDE(0) rec[-1]\nM 0"
    ),
    # A round of detectors that are made of earlier rounds' measurements, or of none.
    "empty detectors": stim.Circuit(
        "X_ERROR(0.1) 0 1\nM 0 1\nDETECTOR(0, 0, 0) rec[-1] rec[-2]\nDETECTOR(0, 0, 1) rec[-2]\n"
        "DETECTOR(0, 0, 1)\nTICK\nM(0.1) 0\nDETECTOR(0, 0, 2) rec[-1] rec[-3] rec[-2] rec[-2]\n"
        "OBSERVABLE_INCLUDE(0) rec[-1]"
    ),
}


@pytest.fixture(scope="module", params=CIRCUITS.values(), ids=CIRCUITS.keys())
def circuit(request: pytest.FixtureRequest) -> stim.Circuit:
    return request.param


@pytest.fixture(scope="module")
def code(circuit: stim.Circuit) -> Code:
    return Code.from_circuit(circuit)


def random_shots(circuit: stim.Circuit, shots: int, seed: int) -> tuple[Bits, Bits]:
    """Measurements and sweep bits that no circuit need ever give: any bits at all."""
    rng = np.random.default_rng(seed)
    measured = rng.integers(0, 2, (shots, circuit.num_measurements), dtype=np.uint8)
    sweeps = rng.integers(0, 2, (shots, circuit.num_sweep_bits), dtype=np.uint8)
    return measured.astype(np.bool_), sweeps.astype(np.bool_)


def stream(code: Code, records: Bytes, sweep: Bytes, cuts: list[int], length: int | None) -> Bytes:
    """Convert pieces that end at `cuts`, carrying only `lookback` records from one to the next."""
    m = code.measurements
    assert m is not None
    history = np.zeros((len(records), m.lookback, m.record_bytes), dtype=np.uint8)
    parts = []
    for start, end in zip([0, *cuts], [*cuts, records.shape[1]], strict=True):
        piece = records[:, start:end]
        parts.append(m.convert(piece, start, length, history, sweep))
        both = np.concatenate([history, piece], axis=1)
        history = both[:, both.shape[1] - m.lookback :]
    return np.concatenate(parts, axis=1)


@given(cuts=st.sets(st.integers(0, 9)), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_any_pieces_convert_as_stim_converts_the_shot(
    circuit: stim.Circuit, code: Code, cuts: set[int], seed: int
) -> None:
    measured, sweeps = random_shots(circuit, 4, seed)
    assert code.measurements is not None
    records = code.measurements.to_records(pack(measured), pack(sweeps))
    ends = sorted(c for c in cuts if c <= records.shape[1])
    got = stream(code, records, pack(sweeps), ends, code.spacetime.rounds)
    assert (got == code.layout.to_records(stim_conversion(circuit, measured, sweeps))).all()


def test_pieces_of_one_round_convert_too(circuit: stim.Circuit, code: Code) -> None:
    measured, sweeps = random_shots(circuit, 50, 5)
    assert code.measurements is not None
    records = code.measurements.to_records(pack(measured), pack(sweeps))
    every = list(range(1, code.spacetime.rounds))
    got = stream(code, records, pack(sweeps), every, code.spacetime.rounds)
    assert (got == code.layout.to_records(stim_conversion(circuit, measured, sweeps))).all()


def test_one_flipped_measurement_has_the_effect_stim_says(
    circuit: stim.Circuit, code: Code
) -> None:
    m, layout = code.measurements, code.layout
    assert m is not None
    units = np.concatenate([np.zeros((1, m.num_measurements)), np.eye(m.num_measurements)])
    sweeps = np.zeros((len(units), m.num_sweep_bits), dtype=np.bool_)
    detectors, observables = circuit.compile_m2d_converter().convert(
        measurements=units.astype(np.bool_), sweep_bits=sweeps, separate_observables=True
    )
    records = unpack(
        m.to_records(pack(units[1:].astype(np.bool_)), pack(sweeps[1:])), m.record_bytes * 8
    )
    for k in range(m.num_measurements):
        ((round_, bit),) = np.argwhere(records[k])
        assert bit < m.used_bits(int(round_), layout.num_rounds)
        flipped = np.flatnonzero(detectors[k + 1] ^ detectors[0])
        want = {(int(layout.round_of[d]), int(layout.bit_of[d])) for d in flipped}
        got, frame = m.effect_of(int(round_), int(bit), layout.num_rounds)
        assert len(got) == len(want)
        assert set(got) == want
        assert frame == np.flatnonzero(observables[k + 1] ^ observables[0]).tolist()


@pytest.mark.parametrize("rounds", [6, 20])
@pytest.mark.parametrize("make", [memory, lambda *args: without_reset(memory(*args))])
def test_a_template_converts_shots_of_other_lengths(make: object, rounds: int) -> None:
    template = Code.from_circuit(make(ROTATED_Z, 3, 9))
    circuit = make(ROTATED_Z, 3, rounds)
    actual = Code.from_circuit(circuit)
    length = actual.spacetime.rounds
    assert template.spacetime.fits(length)
    measured, sweeps = random_shots(circuit, 20, rounds)
    assert template.measurements is not None
    assert actual.measurements is not None
    records = actual.measurements.to_records(pack(measured))
    assert records.shape[2] == template.measurements.record_bytes
    want = actual.layout.to_records(stim_conversion(circuit, measured))
    got = stream(template, records, pack(sweeps), [3, 4], length)
    assert (got == want).all()
    for round_ in range(length):
        used = template.measurements.used_bits(round_, length)
        assert used == actual.measurements.used_bits(round_, length)
        for bit in range(used):
            assert template.measurements.effect_of(round_, bit, length) == (
                actual.measurements.effect_of(round_, bit, length)
            )
    # As long as the end is not in sight, the tail reads as more of the middle.
    begun = length - template.spacetime.tail
    endless = stream(template, records[:, :begun], pack(sweeps), [2], None)
    assert (endless == want[:, :begun]).all()


def test_measurements_lie_in_the_round_that_first_needs_them() -> None:
    made = Code.from_circuit(memory(ROTATED_Z, 3, 4))
    m = made.measurements
    assert m is not None
    assert (m.lookback, m.record_bytes) == (1, 2)
    # Eight ancillas a round, though round 0 has detectors for the first seven only; the data
    # readout comes with the last detectors.
    assert [m.used_bits(r, 5) for r in range(5)] == [8, 8, 8, 8, 9]
    assert Code.from_circuit(CIRCUITS["without reset"]).measurements.lookback == 2
    assert Code.from_circuit(CIRCUITS["no history"]).measurements.lookback == 0


def test_one_instruction_may_serve_several_rounds() -> None:
    """Each round takes no more of it than it needs, or than nobody else waits for."""
    circuit = stim.Circuit(
        "X_ERROR(0.1) 0 1 2 3 4\nM 0 1 2 3 4\nDETECTOR(0) rec[-5]\nDETECTOR(1) rec[-3] rec[-5]\n"
        "DETECTOR(2) rec[-3]\nOBSERVABLE_INCLUDE(0) rec[-1]\nM 0 1"
    )
    m = Code.from_circuit(circuit).measurements
    assert m is not None
    assert [m.used_bits(r, 3) for r in range(3)] == [2, 3, 2]
    assert m.lookback == 1


def test_sweep_bits_ride_behind_the_first_round() -> None:
    code = Code.from_circuit(CIRCUITS["sweep bits"])
    m = code.measurements
    assert m is not None
    assert (m.num_sweep_bits, m.sweep_offset, m.sweep_bytes) == (10, 1, 2)
    measured, sweeps = random_shots(CIRCUITS["sweep bits"], 3, 1)
    records = m.to_records(pack(measured), pack(sweeps))
    assert (unpack(records[:, 0, 1:3], 10) == sweeps).all()


@pytest.mark.parametrize("flip", range(10))
def test_every_sweep_bit_counts(flip: int) -> None:
    """Otherwise the conversion could ignore them and pass on shots that hardly use them."""
    circuit = CIRCUITS["sweep bits"]
    measured = np.zeros((1, circuit.num_measurements), dtype=np.bool_)
    sweeps = np.zeros((1, 10), dtype=np.bool_)
    quiet = stim_conversion(circuit, measured, sweeps)
    sweeps[0, flip] = True
    assert (stim_conversion(circuit, measured, sweeps) != quiet).any()


def test_ill_fitting_shots_are_refused() -> None:
    m = Code.from_circuit(CIRCUITS["sweep bits"]).measurements
    assert m is not None
    good = np.zeros((2, (m.num_measurements + 7) // 8), dtype=np.uint8)
    with pytest.raises(DataError, match="measurements"):
        m.to_records(good[:, :-1], np.zeros((2, 2), dtype=np.uint8))
    with pytest.raises(DataError, match="measurements"):
        m.to_records(good[0])
    for sweep in (None, np.zeros((1, 2), dtype=np.uint8), np.zeros((2, 1), dtype=np.uint8)):
        with pytest.raises(DataError, match="10 sweep bits"):
            m.to_records(good, sweep)


def test_rounds_that_convert_alike_are_told_from_others() -> None:
    code = Code.from_circuit(CIRCUITS["with reset"])
    m, space = code.measurements, code.spacetime
    assert m is not None
    middle, last = space.head, space.head + space.period + space.tail - 1
    assert m.converts_alike(middle, middle)
    assert m.converts_alike(middle, last - 1)  # differs in its mechanisms only
    assert not m.converts_alike(middle, last)
    assert not m.converts_alike(middle, 0)


def test_googles_measurements_give_googles_detectors() -> None:
    """Real readout of all 50,000 shots, in pieces, against the events that Google shipped."""
    data = experiment("surface_code_bX_d3_r05_center_3_5")
    code = Code.parse("circuit", data.circuit)
    assert code.measurements is not None
    sweep = data.packed("sweep.b8", 9)
    records = code.measurements.to_records(data.packed("measurements.b8", 49), sweep)
    got = stream(code, records, sweep, [1, 4], code.spacetime.rounds)
    assert (got == code.layout.to_records(data.packed("detection_events.b8", 40))).all()
