"""Detectors grouped into rounds, and whole shots to round records and back."""

from __future__ import annotations

import re

import numpy as np
import pytest
import stim
from hypothesis import given
from hypothesis import strategies as st

from helpers.circuits import REPETITION, ROTATED_Z, TASKS, code, detections, memory, two_patches
from helpers.windowed import decode_windowed
from qdec.bits import pack, padding_mask, unpack
from qdec.codes import Code, RoundLayout
from qdec.errors import CodeError, DataError
from qdec.windows import WHOLE, Geometry


@st.composite
def round_maps(draw: st.DrawFn) -> list[int]:
    """Any number of detectors in each round, in any order."""
    counts = draw(st.lists(st.integers(1, 19), min_size=1, max_size=8))
    return draw(st.permutations([r for r, n in enumerate(counts) for _ in range(n)]))


@given(round_maps(), st.integers(0, 2**32 - 1))
def test_records_hold_each_round_in_order_of_detectors(rounds: list[int], seed: int) -> None:
    layout = RoundLayout.from_rounds(rounds)
    shots = np.random.default_rng(seed).integers(0, 2, (3, len(rounds)), dtype=np.uint8)
    records = layout.to_records(pack(shots))
    assert records.shape == (3, max(rounds) + 1, layout.record_bytes)
    for round_ in range(max(rounds) + 1):
        members = [d for d, r in enumerate(rounds) if r == round_]
        bits = unpack(records[:, round_], layout.record_bytes * 8)
        assert (bits[:, : len(members)] == shots[:, members]).all()
        assert not bits[:, len(members) :].any()
    assert (layout.from_records(records.reshape(3, -1)) == pack(shots)).all()


@given(round_maps(), st.integers(0, 2**32 - 1))
def test_shots_are_the_inverse_of_records(rounds: list[int], seed: int) -> None:
    layout = RoundLayout.from_rounds(rounds)
    size = (3, layout.num_rounds, layout.record_bytes)
    records = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    for round_, used in enumerate(layout.counts):
        records[:, round_] &= ~padding_mask(int(used), layout.record_bytes)
    assert (layout.to_records(layout.from_records(records.reshape(3, -1))) == records).all()


def test_padding_bits_of_a_shot_do_not_leak_into_records() -> None:
    layout = RoundLayout.from_rounds([0, 0, 1])
    assert layout.to_records(np.array([[0xFF]], dtype=np.uint8)).tolist() == [[[3], [1]]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (16,), (2, 1, 2)])
def test_shots_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    layout = RoundLayout.from_rounds([0] * 16)
    with pytest.raises(DataError, match="2 bytes for 16 detectors"):
        layout.to_records(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("task", TASKS)
def test_rounds_are_the_distinct_times_of_a_circuit(task: str) -> None:
    circuit = memory(task, d=3, rounds=7)
    layout = code(task, d=3, rounds=7).layout
    assert layout.num_rounds == 8
    for detector, at in circuit.get_detector_coordinates().items():
        assert layout.round_of[detector] == at[-1]


def test_two_patches_share_their_rounds() -> None:
    one, two = code(rounds=7).layout, Code.from_circuit(two_patches(memory(rounds=7))).layout
    assert two.counts.tolist() == (2 * one.counts).tolist()


def renumbered(dem: stim.DetectorErrorModel, new: list[int]) -> str:
    """The same model, detector D called ``new[D]``."""
    return re.sub(r"\bD(\d+)", lambda m: f"D{new[int(m[1])]}", str(dem.flattened()))


def test_rounds_need_not_be_contiguous() -> None:
    """Detectors numbered place by place instead of round by round: the same windows."""
    rounds, original = 12, Code.parse("dem", str(code(d=3, rounds=12).dem))
    by_round = np.lexsort((original.layout.round_of, original.layout.bit_of))
    new = np.empty_like(by_round)
    new[by_round] = np.arange(len(new))
    other = Code.parse("dem", renumbered(original.dem, new.tolist()))
    assert other.layout.num_rounds == rounds + 1
    assert (np.diff(other.layout.round_of) < 0).any()
    space, wanted = other.spacetime, original.spacetime
    assert (space.head, space.period, space.tail) == (wanted.head, wanted.period, wanted.tail)

    shots, _ = detections(memory(d=3, rounds=rounds), 500)
    moved = pack(unpack(shots, len(new))[:, by_round])
    records = original.layout.to_records(shots)
    assert (other.layout.to_records(moved) == records).all()
    frames, _ = decode_windowed(other, records, Geometry(6, 3))
    assert (frames == decode_windowed(original, records, Geometry(6, 3))[0]).all()


@given(st.randoms(use_true_random=False))
def test_detectors_may_come_in_any_order(random: object) -> None:
    original = code(REPETITION, d=3, rounds=5)
    new = list(range(original.layout.num_detectors))
    random.shuffle(new)
    other = Code.parse("dem", renumbered(original.dem, new))
    assert (other.layout.round_of[new] == original.layout.round_of).all()
    # Every single fault decodes to what it flips, whatever the numbers.
    for item in other.dem:
        if item.type != "error":
            continue
        names = [str(t) for t in item.targets_copy() if not t.is_separator()]
        shot = np.zeros((1, len(new)), dtype=np.uint8)
        for name in names:
            shot[0, int(name[1:])] ^= name[0] == "D"
        frames, _ = decode_windowed(other, other.layout.to_records(pack(shot)), WHOLE)
        assert frames[0, 0] == names.count("L0") % 2


CHAIN = "error(0.1) D0 L0\nerror(0.1) D0 D1\nerror(0.1) D1 D2\n"


def test_an_explicit_map_overrides_coordinates() -> None:
    text = CHAIN + "detector(0, 0, 5) D0\ndetector(0, 0, 6) D1\ndetector(0, 0, 7) D2"
    assert Code.parse("dem", text).layout.round_of.tolist() == [0, 1, 2]
    mapped = Code.parse("dem", text, round_map=[1, 0, 1])
    assert mapped.layout.round_of.tolist() == [1, 0, 1]
    assert mapped.layout.bit_of.tolist() == [0, 0, 1]
    assert mapped.digest != Code.parse("dem", text).digest  # another code altogether


@pytest.mark.parametrize(
    ("coordinates", "rounds"),
    [
        (["(0, 0, 3)", "(0, 9, 1)", "(5, 5, 3)"], [1, 0, 1]),
        (["(4, 2)", "(4, 7)", "(1, 2)"], [0, 1, 0]),  # a repetition code: position, time
        (["(2)", "(1)", "(0)"], [2, 1, 0]),
        (["(0, 0, 1, 9)", "(0, 0, 0, 8)", "(0, 0, 1, 7)"], [1, 0, 1]),  # Chromobius: colour last
        (["(0, 0, -0.5)", "(0, 0, 1e9)", "(0, 0, 0.25)"], [0, 2, 1]),
    ],
)
def test_the_time_coordinate(coordinates: list[str], rounds: list[int]) -> None:
    text = CHAIN + "".join(f"detector{at} D{d}\n" for d, at in enumerate(coordinates))
    assert Code.parse("dem", text).layout.round_of.tolist() == rounds


def test_a_detector_without_coordinates_is_named() -> None:
    with pytest.raises(CodeError, match=r"D1 has no coordinates.*round map"):
        Code.parse("dem", CHAIN + "detector(0, 0, 0) D0\ndetector(0, 0, 1) D2\ndetector D1")


@pytest.mark.parametrize(
    ("rounds", "complaint"),
    [
        ([0, 0], "2 entries, not 3"),
        ([0, 1, 3], "some rounds have none"),
        ([0, 0, 2], "round 1 of the round map has no detector"),
        ([1, 1, 2], "round 0 of the round map has no detector"),
        ([0, -1, 1], "negative"),
    ],
)
def test_a_map_with_holes_is_refused(rounds: list[int], complaint: str) -> None:
    with pytest.raises(CodeError, match=complaint):
        Code.parse("dem", CHAIN, round_map=rounds)


def test_the_digest_is_the_identity() -> None:
    circuit = memory(ROTATED_Z, d=3, rounds=3)
    dem = str(circuit.detector_error_model(decompose_errors=True))
    digests = {
        Code.from_circuit(circuit).digest,
        Code.parse("dem", dem).digest,
        Code.parse("dem", dem + "\n").digest,
        Code.from_circuit(memory(ROTATED_Z, d=3, rounds=4)).digest,
    }
    assert len(digests) == 4
    assert Code.from_circuit(circuit).digest in digests
