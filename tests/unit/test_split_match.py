"""The parts' answers, XORed, are the whole's: the same weight always, the same frame but for ties.

Weights are PyMatching's own. They are compared within the rounding of its integer weights, which
are scaled by each graph's largest.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pymatching
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import (
    ROTATED_X,
    ROTATED_Z,
    code,
    detections,
    memory,
    ring,
    two_patches,
    without_reset,
)
from qdec.bits import Bytes, pack
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.match import Answers, Tier, compile_window
from qdec.match.matching import MatchingWindow
from qdec.match.offline import OfflineDecoder, decode_shots
from qdec.windows import WHOLE, Geometry, Window
from qdec.windows.cut import Erasure, cut

MEMORIES = [(task, d) for task in (ROTATED_Z, ROTATED_X) for d in (3, 5)]
GEOMETRY = Geometry(6, 3)
# An endless shot's beginning, repeating rounds and end; d=5 needs more than 64 ids.
WINDOWS = [
    Window(0, 6, 3, None),
    Window(9, 15, 3, None),
    Window(12, 40, 20, None),
    Window(3, 9, 3, 11),
    Window(6, 11, 5, 11),
    Window(0, 11, 11, 11),
]


@cache
def unsplit(task: str, d: int, window: Window) -> MatchingWindow:
    return MatchingWindow(cut(code(task, d).spacetime, window))


@cache
def halves(task: str, d: int, window: Window) -> tuple[MatchingWindow, ...]:
    made = code(task, d)
    compiled = [
        compile_window(made, Tier.MATCHING, GEOMETRY, window, part=part) for part in made.split(2)
    ]
    assert all(isinstance(one, MatchingWindow) for one in compiled)
    return tuple(compiled)


def weights(compiled: MatchingWindow, syndromes: Bytes) -> np.ndarray:
    """``(B,)`` weight of PyMatching's solutions, all graphs of a window together."""
    total = np.zeros(len(syndromes))
    for graph in compiled._graphs:
        shots = syndromes if graph.mask is None else syndromes & graph.mask
        total += graph.matching.decode_batch(shots, bit_packed_shots=True, return_weights=True)[1]
    return total


def xored(answers: list[Answers]) -> Answers:
    bits, feasible = answers[0].bits.copy(), answers[0].feasible
    for one in answers[1:]:
        bits ^= one.bits
        feasible = feasible & one.feasible
    return Answers(bits, feasible)


def random_syndromes(made: Code, window: Window, density: float, seed: int) -> Bytes:
    """Events on detectors only; padding bits are zero, as they are in a stream."""
    nodes = np.logical_or.reduce(
        [p.nodes(window.start, window.end, window.length) for p in made.split(2)]
    )
    events = np.random.default_rng(seed).random((40, len(nodes))) < density
    return pack(events & nodes)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(("task", "d"), MEMORIES)
@given(density=st.sampled_from([0.003, 0.02, 0.1, 0.5]), seed=st.integers(0, 10_000))
@settings(max_examples=8)
def test_the_parts_of_any_syndrome_weigh_what_it_weighs(
    task: str, d: int, window: Window, density: float, seed: int
) -> None:
    syndromes = random_syndromes(code(task, d), window, density, seed)
    parts = halves(task, d, window)
    of_parts = sum(weights(part, syndromes) for part in parts)
    of_whole = weights(unsplit(task, d, window), syndromes)
    np.testing.assert_allclose(of_parts, of_whole, rtol=1e-4, atol=1e-2)
    answers = xored([part.decode(syndromes) for part in parts])
    assert answers.feasible.all()
    # Where they are not the same, they are as likely: sparse syndromes have few ties.
    if density < 0.01:
        same = (answers.bits == unsplit(task, d, window).decode(syndromes).bits).all(axis=1)
        assert same.sum() >= len(same) - 2


@pytest.mark.parametrize(("task", "d"), MEMORIES)
def test_whole_shots_weigh_what_pymatching_says_of_the_untouched_model(task: str, d: int) -> None:
    made = code(task, d, 12, 0.005)
    shots, _ = detections(memory(task, d, 12, 0.005), 2_000)
    oracle = pymatching.Matching.from_detector_error_model(made.dem)
    _, expected = oracle.decode_batch(shots, bit_packed_shots=True, return_weights=True)
    rounds = made.spacetime.rounds
    window = Window(0, rounds, rounds, rounds)
    syndromes = made.layout.to_records(shots).reshape(len(shots), -1)
    of_parts = np.zeros(len(shots))
    for part in made.split(2):
        compiled = compile_window(made, Tier.MATCHING, WHOLE, window, part=part)
        assert isinstance(compiled, MatchingWindow)
        of_parts += weights(compiled, syndromes)
    np.testing.assert_allclose(of_parts, expected, rtol=1e-4, atol=1e-2)


def decode_parts(made: Code, geometry: Geometry, records: Bytes, count: int = 2) -> Bytes:
    frames = []
    for part in made.split(count):
        frame, feasible = OfflineDecoder(made, Tier.MATCHING, geometry, part).decode(records)
        assert feasible.all()
        frames.append(frame)
    return np.bitwise_xor.reduce(frames)


CASES = {
    **{
        f"{task}, d={d}, {geometry}": (memory(task, d, 6 * d, 0.005), geometry, 2)
        for task, d in MEMORIES
        for geometry in (WHOLE, Geometry(2 * d, d), Geometry(4 * d, 3 * d))
    },
    "without reset": (without_reset(memory(rounds=18, p=0.005)), Geometry(6, 3), 2),
    "without reset, C=1": (without_reset(memory(rounds=18, p=0.005)), Geometry(8, 1), 2),
    "two patches for two": (two_patches(memory(rounds=12, p=0.005)), Geometry(6, 3), 2),
    "two patches for four": (two_patches(memory(rounds=12, p=0.005)), WHOLE, 4),
}


@pytest.mark.parametrize("name", CASES)
def test_frames_are_the_unsplit_ones_and_fail_as_often(name: str) -> None:
    circuit, geometry, count = CASES[name]
    made = Code.from_circuit(circuit)
    shots, flips = detections(circuit, 10_000, seed=3)
    records = made.layout.to_records(shots)
    whole, _ = decode_shots(made, Tier.MATCHING, geometry, records)
    split = decode_parts(made, geometry, records, count)
    assert (split != whole).any(axis=1).mean() <= 0.001
    wrong = (split != flips).any(axis=1), (whole != flips).any(axis=1)
    only_split, only_whole = int((wrong[0] & ~wrong[1]).sum()), int((wrong[1] & ~wrong[0]).sum())
    assert abs(only_split - only_whole) <= 4 * math.sqrt(only_split + only_whole) + 3
    assert wrong[1].sum() >= 5


def test_a_template_of_a_few_rounds_divides_shots_of_many() -> None:
    circuit = memory(rounds=60, p=0.005)
    records = Code.from_circuit(circuit).layout.to_records(detections(circuit, 2_000)[0])
    whole, _ = decode_shots(code(), Tier.MATCHING, GEOMETRY, records)
    split = decode_parts(code(), GEOMETRY, records)
    assert (split != whole).any(axis=1).mean() <= 0.001
    assert whole.any()


@pytest.mark.parametrize("window", WINDOWS[:4], ids=str)
def test_an_event_of_another_part_changes_nothing(window: Window) -> None:
    made = code()
    syndromes = random_syndromes(made, window, 0.1, 5)
    for part, other in ((0, 1), (1, 0)):
        compiled = halves(ROTATED_Z, 3, window)[part]
        theirs = pack(made.split(2)[other].nodes(window.start, window.end, window.length))
        mixed, alone = compiled.decode(syndromes), compiled.decode(syndromes & ~theirs)
        np.testing.assert_array_equal(mixed.bits, alone.bits)
        assert alone.bits.any()


def two_rings() -> Code:
    """Two patches without a boundary: an event alone cannot be explained."""
    return Code.from_circuit(two_patches(ring(rounds=6)))


@pytest.mark.parametrize("geometry", [WHOLE, GEOMETRY], ids=str)
def test_what_nothing_explains_is_its_own_parts_matter(geometry: Geometry) -> None:
    made = two_rings()
    rounds = made.spacetime.rounds
    window = Window(0, rounds, rounds, rounds)
    row = 8 * made.layout.record_bytes
    events = np.zeros((1, rounds * row), dtype=np.bool_)
    first = made.split(2)[0]
    events[0, int(np.flatnonzero(first.nodes(0, rounds, rounds))[9])] = True
    feasible = [
        bool(
            compile_window(made, Tier.MATCHING, geometry, window, part=part)
            .decode(pack(events))
            .feasible[0]
        )
        for part in made.split(2)
    ]
    assert feasible == [False, True]


def test_a_part_without_detectors_in_the_window_answers_nothing() -> None:
    """A memory's first round has detectors of one basis only."""
    made = code()
    window = Window(0, 1, 1, 1)
    other = made.split(2)[1]
    assert not other.nodes(0, 1, None).any()
    compiled = compile_window(made, Tier.MATCHING, WHOLE, window, part=other)
    answers = compiled.decode(np.full((1, 1), 0x0F, dtype=np.uint8))
    assert answers.feasible.all()
    assert not answers.bits.any()


def test_erasures_belong_to_their_part() -> None:
    made = code(rounds=12)
    window = Window(3, 9, 3, None)
    parts = made.split(2)
    place = next((5, b) for b in range(8) if parts[0].holds(5, b, None))
    syndromes = random_syndromes(made, window, 0.05, 2)
    lost = (Erasure((place,)),)
    plain = [compile_window(made, Tier.MATCHING, GEOMETRY, window, part=p) for p in parts]
    erased = [compile_window(made, Tier.MATCHING, GEOMETRY, window, lost, p) for p in parts]
    unlike = [
        bool((weights(a, syndromes) != weights(b, syndromes)).any())
        for a, b in zip(plain, erased, strict=True)
    ]
    assert unlike == [True, False]
    whole = MatchingWindow(cut(made.spacetime, window, lost))
    of_parts = sum(weights(one, syndromes) for one in erased)
    np.testing.assert_allclose(of_parts, weights(whole, syndromes), rtol=1e-4, atol=1e-2)


def test_an_erasure_across_parts_is_refused() -> None:
    made = code(rounds=12)
    bits = [next(b for b in range(8) if part.holds(5, b, None)) for part in made.split(2)]
    lost = (Erasure(((5, bits[0]), (5, bits[1]))),)
    for part in made.split(2):
        with pytest.raises(GeometryError, match="two parts"):
            compile_window(made, Tier.MATCHING, GEOMETRY, Window(3, 9, 3, None), lost, part)


def test_correlations_need_all_of_the_code() -> None:
    made = code()
    with pytest.raises(GeometryError, match="all of a code's detectors"):
        compile_window(
            made, Tier.CORRELATED, GEOMETRY, Window(0, 6, 3, None), part=made.split(2)[0]
        )
