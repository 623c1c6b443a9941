"""The endless sampler: the same noise as Stim's, and a truth that fits it."""

from __future__ import annotations

import numpy as np
import pymatching
import pytest
import stim

from qdec.bits import Bytes, unpack
from qdec.codes import Code
from qdec.errors import CodeError, GeometryError
from qdec.match import Tier, compile_window
from qdec.windows import Geometry, window_at
from qdec_tools.circuits import DEFAULT_TASK, memory
from qdec_tools.sampler import EndlessSampler, LogicalErrors

MEMORY_X = "surface_code:rotated_memory_x"


def circuit(d: int, rounds: int, p: float = 0.003, task: str = DEFAULT_TASK) -> stim.Circuit:
    return memory(d, rounds, p, task)


def two_round_circuit() -> stim.Circuit:
    """A repetition code whose data noise alternates: period 2; and two observables."""
    body = (
        "X_ERROR({p}) 0 1 2\nCX 0 3 1 4\nTICK\nCX 1 3 2 4\nTICK\nM(0.02) 3 4\nR 3 4\n"
        "SHIFT_COORDS(0, 0, 1)\nDETECTOR(0, 0, 0) rec[-2] rec[-4]\n"
        "DETECTOR(1, 0, 0) rec[-1] rec[-3]\n"
    )
    first = body.format(p=0.01).replace(" rec[-4]", "").replace(" rec[-3]", "")
    return stim.Circuit(
        f"R 0 1 2 3 4\n{first}REPEAT 12 {{\n{body.format(p=0.03)}{body.format(p=0.01)}}}\n"
        "M(0.02) 0 1 2\nDETECTOR(0, 0, 1) rec[-3] rec[-2] rec[-5]\n"
        "DETECTOR(1, 0, 1) rec[-2] rec[-1] rec[-4]\n"
        "OBSERVABLE_INCLUDE(0) rec[-3]\nOBSERVABLE_INCLUDE(9) rec[-1]\n"
    )


def no_reset_circuit(p: float = 0.01) -> stim.Circuit:
    """A repetition code that never resets its ancillas: detectors reach back two rounds."""

    def body(back: str) -> str:
        return (
            f"X_ERROR({p}) 0 1 2\nCX 0 3 1 4\nTICK\nCX 1 3 2 4\nTICK\nM({p}) 3 4\n"
            f"SHIFT_COORDS(0, 0, 1)\nDETECTOR(0, 0, 0) rec[-2] {back.format(6)}\n"
            f"DETECTOR(1, 0, 0) rec[-1] {back.format(5)}\n"
        )

    return stim.Circuit(
        f"R 0 1 2 3 4\n{body('')}{body('')}"
        f"REPEAT 12 {{\n{body('rec[-{}]')}}}\nM({p}) 0 1 2\n"
        "DETECTOR(0, 0, 1) rec[-3] rec[-2] rec[-5] rec[-7]\n"
        "DETECTOR(1, 0, 1) rec[-2] rec[-1] rec[-4] rec[-6]\nOBSERVABLE_INCLUDE(0) rec[-1]\n"
    )


def stim_records(source: stim.Circuit, code: Code, shots: int, seed: int) -> tuple[Bytes, Bytes]:
    detectors, observables = source.compile_detector_sampler(seed=seed).sample(
        shots, separate_observables=True, bit_packed=True
    )
    return code.layout.to_records(detectors), observables


def moments(records: Bytes) -> np.ndarray:
    """Mean of every bit and of every product of two bits of ``(n, rounds, bytes)`` records."""
    bits = unpack(records.reshape(len(records), -1), records[0].size * 8).astype(np.float32)
    return np.asarray((bits.T @ bits) / len(bits), dtype=np.float64)


def assert_same(one: np.ndarray, n: int, other: np.ndarray, m: int, sigmas: float = 5) -> None:
    """Means of 0/1 variables over n and m independent samples agree."""
    pooled = (one * n + other * m) / (n + m)
    sigma = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)) + 1 / min(n, m)
    assert (np.abs(one - other) < sigmas * sigma).all()


def finite_shots(code: Code, length: int, shots: int, seed: int) -> tuple[Bytes, Bytes]:
    sampler = EndlessSampler(code, seed, chunk=64)
    records, frames = [], []
    for _ in range(shots):
        records.append(sampler.close(length))
        frame, seam = sampler.truth(length)
        assert not any(seam)
        frames.append(np.frombuffer(frame, dtype=np.uint8))
        sampler.restart()
    return np.stack(records), np.stack(frames)


@pytest.mark.parametrize(
    "source",
    [
        circuit(3, 12),
        circuit(3, 12, task=MEMORY_X),
        circuit(5, 12),
        two_round_circuit(),
        no_reset_circuit(),
    ],
    ids=["d3", "d3x", "d5", "period2", "no_reset"],
)
def test_steady_rounds_have_the_rates_and_correlations_of_stim(source: stim.Circuit) -> None:
    code = Code.from_circuit(source)
    space = code.spacetime
    # Every fourth round starts a group: groups share no mechanism, so they are independent.
    groups = 100_000
    sampler = EndlessSampler(code, 1)
    sampler.next(space.head + (4 - space.head) % 4)
    stream = sampler.next(4 * groups).reshape(groups, 4, -1)[:, :2]
    shots, _ = stim_records(source, code, groups, 2)
    start = space.head + (4 - space.head) % 4
    assert start + 2 <= space.rounds - space.tail
    assert_same(moments(stream), groups, moments(shots[:, start : start + 2]), groups)


@pytest.mark.parametrize(
    "source",
    [circuit(3, 6), circuit(3, 6, task=MEMORY_X), two_round_circuit(), no_reset_circuit()],
    ids=["z", "x", "period2", "no_reset"],
)
def test_closed_shots_are_stims_shots(source: stim.Circuit) -> None:
    code = Code.from_circuit(source)
    rounds, shots = code.spacetime.rounds, 8_000
    mine, frames = finite_shots(code, rounds, shots, 3)
    stims, observables = stim_records(source, code, 10 * shots, 4)
    assert_same(moments(mine), shots, moments(stims), 10 * shots)
    assert_same(
        moments(frames[:, None]), shots, moments(observables[:, None]), 10 * shots
    )  # observables too
    matching = pymatching.Matching.from_detector_error_model(code.dem)

    def failures(records: Bytes, truth: Bytes) -> float:
        packed = code.layout.from_records(records.reshape(len(records), -1))
        guess = matching.decode_batch(packed, bit_packed_shots=True, bit_packed_predictions=True)
        return float((guess != truth).any(axis=1).mean())

    one, other = failures(mine, frames), failures(stims, observables)
    assert_same(np.array(one), shots, np.array(other), 10 * shots)


def test_stretched_shots_are_those_of_a_longer_circuit() -> None:
    template, longer = circuit(3, 8), circuit(3, 24)
    code, whole = Code.from_circuit(template), Code.from_circuit(longer)
    mine, frames = finite_shots(code, whole.spacetime.rounds, 6_000, 5)
    stims, observables = stim_records(longer, whole, 60_000, 6)
    assert_same(moments(mine), 6_000, moments(stims), 60_000)
    matching = pymatching.Matching.from_detector_error_model(whole.dem)
    rates = []
    for records, truth in ((mine, frames), (stims, observables)):
        packed = whole.layout.from_records(records.reshape(len(records), -1))
        guess = matching.decode_batch(packed, bit_packed_shots=True, bit_packed_predictions=True)
        rates.append(np.array((guess != truth).any(axis=1).mean()))
    assert_same(rates[0], 6_000, rates[1], 60_000)


@pytest.mark.parametrize("source", [circuit(3, 8), two_round_circuit(), no_reset_circuit()])
def test_the_stream_does_not_depend_on_how_it_is_asked_for(source: stim.Circuit) -> None:
    code = Code.from_circuit(source)
    length = 500 + (code.spacetime.rounds - 500) % code.spacetime.period
    steps = np.random.default_rng(0)

    def run(chunked: bool) -> tuple[Bytes, list[tuple[bytes, bytes]]]:
        sampler = EndlessSampler(code, 11, chunk=64)
        parts, truths = [], []
        for target in range(100, 500, 100):
            while sampler.position < target:
                left = target - sampler.position
                count = min(left, int(steps.integers(0, 9))) if chunked else left
                parts.append(sampler.next(count))
            truths.append(sampler.truth(target - 3))
        parts.append(sampler.close(length))
        truths.append(sampler.truth(length))
        return np.concatenate(parts), truths

    one, truth = run(chunked=False)
    other, other_truth = run(chunked=True)
    assert len(one) == length
    np.testing.assert_array_equal(one, other)
    assert truth == other_truth
    different = EndlessSampler(code, 12, chunk=64).next(200)
    assert (different != one[:200]).any()


def test_restart_gives_another_shot() -> None:
    sampler = EndlessSampler(Code.from_circuit(circuit(3, 8)), 0)
    first = sampler.next(300)
    sampler.restart()
    assert sampler.position == 0
    assert (sampler.next(300) != first).any()


def test_history_is_bounded_and_boundaries_increase() -> None:
    sampler = EndlessSampler(Code.from_circuit(circuit(3, 8)), 0, chunk=256)
    for step in range(1, 200):
        sampler.next(100)
        sampler.truth(100 * step - 20)
        assert sampler.kept_rounds <= 120 + 3 * 256
    with pytest.raises(ValueError, match="increasing"):
        sampler.truth(10)
    with pytest.raises(ValueError, match="outside"):
        sampler.truth(sampler.position + 1)
    untracked = EndlessSampler(Code.from_circuit(circuit(3, 8)), 0, chunk=256, track=False)
    untracked.next(10_000)
    assert untracked.kept_rounds == 0
    with pytest.raises(ValueError, match="track"):
        untracked.truth(0)


def test_closing_where_it_cannot_be_closed() -> None:
    code = Code.from_circuit(two_round_circuit())
    sampler = EndlessSampler(code, 0)
    sampler.next(40)
    with pytest.raises(ValueError, match="at least"):
        sampler.close(code.spacetime.rounds)
    with pytest.raises(GeometryError, match="no shot"):
        sampler.close(code.spacetime.rounds + 101)
    sampler.close()
    assert code.spacetime.fits(sampler.position)
    for use in (lambda: sampler.next(1), sampler.close):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_code_without_repetition_is_refused() -> None:
    with pytest.raises(GeometryError, match="no repeating round"):
        EndlessSampler(Code.from_circuit(circuit(3, 1)), 0)


def test_a_truth_that_no_decoder_could_know_is_refused() -> None:
    edges = "".join(f"error(0.1) D{r} L0\ndetector(0, 0, {r}) D{r}\n" for r in range(8))
    EndlessSampler(Code.parse("dem", edges), 0)
    hidden = Code.parse("dem", edges + "error(0.1) D3 ^ L0\n")
    with pytest.raises(CodeError, match="no detector"):
        EndlessSampler(hidden, 0)
    EndlessSampler(hidden, 0, track=False)


def test_logical_errors_are_changes_between_closed_boundaries() -> None:
    truth = {10: (b"\x01", b"\x04"), 20: (b"\x00", b"\x00"), 30: (b"\x02", b"\x01")}
    count = LogicalErrors(truth.__getitem__)
    assert count.observe(10, b"\x00", b"\x05") == 0  # not closed
    assert count.observe(20, b"\x03", b"\x00") == 2
    assert count.observe(30, b"\x01", b"\x01") == 0
    assert (count.errors, count.boundaries, count.intervals, count.rounds) == (2, 3, 2, 30)
    with pytest.raises(ValueError, match="bytes"):
        count.observe(30, b"", b"\x00")


def run_windows(code: Code, geometry: Geometry, rounds: int, seed: int) -> LogicalErrors:
    """Decode an endless stream window by window, as the service does."""
    sampler = EndlessSampler(code, seed)
    count = LogicalErrors(sampler.truth)
    compiled = {}
    width, space = code.layout.record_bytes, code.spacetime
    frame_bytes = (code.num_observables + 7) // 8
    frame = np.zeros(frame_bytes, dtype=np.uint8)
    seam = np.zeros(space.span * width, dtype=np.uint8)
    waiting = sampler.next(0)
    at = 0
    while at < rounds:
        window = window_at(geometry, at, None)
        waiting = np.concatenate([waiting, sampler.next(window.end - sampler.position)])
        key = space.window_key(window.start, window.end, None)
        if key not in compiled:
            compiled[key] = compile_window(code, Tier.MATCHING, geometry, window)
        syndrome = waiting.reshape(1, -1).copy()
        syndrome[0, : len(seam)] ^= seam
        answer = compiled[key].decode(syndrome)
        assert answer.feasible.all()
        frame ^= answer.bits[0, :frame_bytes]
        seam = answer.bits[0, frame_bytes:]
        waiting = waiting[window.commit :]
        at += window.commit
        count.observe(at, frame.tobytes(), seam.tobytes())
    return count


@pytest.mark.parametrize("source", [circuit(5, 10, p=2e-4), no_reset_circuit(p=2e-4)])
def test_what_is_easily_decoded_is_the_truth(source: stim.Circuit) -> None:
    code = Code.from_circuit(source)
    count = run_windows(code, Geometry(30, 24), 48_000, 1)
    assert count.errors == 0
    assert count.intervals > 0.97 * count.boundaries


def test_logical_errors_come_at_the_rate_of_finite_experiments() -> None:
    d, p, rounds, shots = 3, 0.004, 60, 20_000
    source = circuit(d, rounds, p)
    code = Code.from_circuit(source)
    count = run_windows(code, Geometry(30, 24), 480_000, 8)
    assert count.intervals > 0.5 * count.boundaries

    stims, observables = stim_records(source, code, shots, 9)
    packed = code.layout.from_records(stims.reshape(shots, -1))
    matching = pymatching.Matching.from_detector_error_model(code.dem)
    guess = matching.decode_batch(packed, bit_packed_shots=True, bit_packed_predictions=True)
    failed = float((guess != observables).any(axis=1).mean())
    finite = (1 - (1 - 2 * failed) ** (1 / rounds)) / 2
    # d e / d failed, by the same formula.
    sigma_finite = (
        np.sqrt(failed * (1 - failed) / shots) * (1 - 2 * failed) ** (1 / rounds - 1) / rounds
    )
    sigma_endless = count.rate() / np.sqrt(count.errors)
    assert abs(count.rate() - finite) < 4 * np.hypot(sigma_finite, sigma_endless)
