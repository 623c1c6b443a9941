"""The repetition found in a code, and what is made of it: stretched shots, shared windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import (
    REPETITION,
    ROTATED_X,
    ROTATED_Z,
    TASKS,
    code,
    memory,
    one_after_the_other,
    ring,
    two_patches,
    without_reset,
)
from helpers.models import Component, Instruction, instructions_in_rounds
from qdec.codes import Code, SpaceTime
from qdec.codes.spacetime import Components, find_repetition
from qdec.errors import GeometryError
from qdec.windows import Window, choose_geometry
from qdec.windows.cut import cut

CIRCUITS = {
    **{task: lambda rounds, task=task: memory(task, 3, rounds) for task in TASKS},
    "d=5": lambda rounds: memory(ROTATED_X, 5, rounds),
    "ring": lambda rounds: ring(rounds=rounds),
    "repetition without reset": lambda rounds: without_reset(memory(REPETITION, 3, rounds)),
    "rotated Z without reset": lambda rounds: without_reset(memory(ROTATED_Z, 3, rounds)),
    "two patches": lambda rounds: two_patches(memory(ROTATED_Z, 3, rounds)),
}


@pytest.fixture(params=CIRCUITS.values(), ids=CIRCUITS.keys())
def circuit_of(request: pytest.FixtureRequest) -> object:
    """Makes one kind of circuit, of any number of rounds."""
    return request.param


def test_every_round_of_a_memory_repeats(circuit_of) -> None:
    space = Code.from_circuit(circuit_of(20)).spacetime
    assert space.period == 1
    assert space.head + space.tail <= 8  # the first and last few rounds differ
    assert space.rounds == 21


@pytest.mark.parametrize(("template", "lengths"), [(9, range(4, 11)), (12, [5, 20])])
def test_stretched_shots_have_the_longer_circuits_mechanisms(
    circuit_of, template: int, lengths: Iterable[int]
) -> None:
    short = Code.from_circuit(circuit_of(template)).spacetime
    for rounds in lengths:
        length = rounds + 1
        if not short.fits(length):
            assert length < short.head + short.tail
            continue
        longer = Code.from_circuit(circuit_of(rounds)).spacetime
        got = instructions(short.components(0, length, length))
        want = instructions(longer.components(0, length, length))
        assert got.keys() == want.keys(), (rounds, short.head, short.tail)
        for key, p in want.items():
            assert got[key] == pytest.approx(p, rel=1e-5)
        assert [short.detectors_in(r, length) for r in range(length)] == (
            longer.layout.counts.tolist()
        )


def instructions(c: Components) -> dict[Instruction, float]:
    """What each instruction flips, component by component, and its probability."""
    parts: dict[int, Counter[Component]] = {}
    p: dict[int, float] = {}
    for k, group in enumerate(c.group.tolist()):
        ends = {(int(c.u_round[k]), int(c.u_bit[k]))}
        if c.v_round[k] >= 0:
            ends.add((int(c.v_round[k]), int(c.v_bit[k])))
        observables = frozenset(c.obs[c.obs_ptr[k] : c.obs_ptr[k + 1]].tolist())
        parts.setdefault(group, Counter())[frozenset(ends), observables] += 1
        p[group] = float(c.p[k])
    merged = {frozenset(parts[g].items()): p[g] for g in parts}
    assert len(merged) == len(parts)
    return merged


def test_components_of_the_template_are_stims_own(circuit_of) -> None:
    """The oracle: Stim's flattened model, in rounds by Stim's coordinates."""
    circuit = circuit_of(9)
    made = Code.from_circuit(circuit)
    layout = made.layout
    model = circuit.detector_error_model(decompose_errors=True)
    want = instructions_in_rounds(model, layout)
    got = instructions(made.spacetime.components(0, layout.num_rounds, layout.num_rounds))
    assert got == pytest.approx(want, rel=1e-9)


def same_problem(space: SpaceTime, one: Window, other: Window) -> bool:
    a, b = cut(space, one), cut(space, other)
    arrays = ("p", "group", "u", "v", "id_ptr", "ids")
    return a.num_nodes == b.num_nodes and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays
    )


def assert_equal_keys_mean_equal_problems(space: SpaceTime, lengths: list[int]) -> int:
    """Checks windows of every place and size; returns how many shared a key."""
    seen: dict[tuple[int, ...], Window] = {}
    shared = 0
    for length in filter(space.fits, lengths):
        for start in range(length):
            for end in range(start + 1, length + 1):
                for commit in {end - start - space.span, end - start - space.span - 1}:
                    if end == length:
                        commit = end - start
                    if commit < 1:
                        continue
                    window = Window(start, end, commit, length)
                    key = (*space.window_key(start, end, length), commit)
                    if key in seen:
                        shared += 1
                        assert same_problem(space, seen[key], window), (key, seen[key], window)
                    seen.setdefault(key, window)
    return shared


def test_equal_window_keys_mean_identical_problems(circuit_of) -> None:
    space = Code.from_circuit(circuit_of(9)).spacetime
    assert assert_equal_keys_mean_equal_problems(space, [9, 10, 13, 14]) > 100


def test_windows_behind_the_head_see_what_it_left() -> None:
    """An instruction of round 0 with a component in round 1 only: windows at 1 and 2 differ."""
    rounds = 12
    text = "error(0.01) D0 ^ D1 D2\nerror(0.02) D0 ^ D2\n"
    text += "".join(f"error(0.03) D{r} L0\nerror(0.04) D{r} D{r + 1}\n" for r in range(rounds - 1))
    text += "".join(f"detector(0, 0, {r}) D{r}\n" for r in range(rounds))
    space = Code.parse("dem", text).spacetime
    assert (space.head, space.period, space.reach, space.span) == (1, 1, 2, 1)
    assert not same_problem(space, Window(1, 5, 2, rounds), Window(3, 7, 2, rounds))
    assert assert_equal_keys_mean_equal_problems(space, [10, 12, 15]) > 100


def test_two_round_patterns_have_period_two() -> None:
    space = Code.parse("dem", alternating(14)).spacetime
    assert (space.period, space.rounds) == (2, 14)
    assert space.fits(16)
    assert not space.fits(15)
    assert space.fits(2)
    assert not space.fits(0)
    for length in (8, 10, 20):
        longer = Code.parse("dem", alternating(length)).spacetime
        assert instructions(space.components(0, length, length)) == pytest.approx(
            instructions(longer.components(0, length, length))
        )
    assert assert_equal_keys_mean_equal_problems(space, [10, 12, 14]) > 100


def alternating(rounds: int) -> str:
    """A chain in which every second step is likelier."""
    lines = [f"detector(0, 0, {r}) D{r}\nerror(0.01) D{r} L0" for r in range(rounds)]
    lines += [f"error(0.0{1 + r % 2}) D{r} D{r + 1}" for r in range(rounds - 1)]
    return "\n".join(lines)


def test_a_code_without_repetition_cannot_be_stretched() -> None:
    space = code(ROTATED_Z, 3, 2).spacetime
    assert (space.head, space.period, space.tail) == (3, 0, 0)
    assert space.fits(3)
    assert not space.fits(4)
    with pytest.raises(GeometryError, match="no repeating round"):
        space.class_of(3, None)


def test_measurements_must_repeat_too() -> None:
    """Alike as detectors, but every second round is read in the other order: period 2."""
    lines = ["R 0 1"]
    for r in range(14):
        order = "0 1" if r % 2 else "1 0"
        first = -2 if r % 2 else -1
        lines += [f"X_ERROR(0.01) 0 1\nMR {order}\nX_ERROR(0.01) 0 1"]
        lines += [f"DETECTOR(0, 0, {r}) rec[{first}]\nDETECTOR(1, 0, {r}) rec[{-3 - first}]"]
    circuit = stim.Circuit("\n".join([*lines, "M 0\nOBSERVABLE_INCLUDE(0) rec[-1]"]))
    made = Code.from_circuit(circuit)
    assert made.spacetime.period == 2
    assert Code.parse("dem", str(made.dem)).spacetime.period == 1
    assert made.streamed(raw=True).spacetime.period == 2
    assert made.streamed(raw=False).spacetime.period == 1


def test_patches_one_after_the_other_repeat_as_detectors_only() -> None:
    made = Code.from_circuit(one_after_the_other(memory(d=3, rounds=8)))
    as_dem = Code.parse("dem", str(made.dem)).spacetime
    as_detectors = made.streamed(raw=False)
    assert as_detectors.spacetime.repetition == as_dem.repetition == (2, 1, 2)
    assert as_detectors.digest == made.digest
    assert as_detectors.measurements is None
    assert choose_geometry("auto", as_detectors, endless=True).window > 0
    with pytest.raises(GeometryError, match=r"one patch after the other.*stream detectors"):
        choose_geometry("auto", made.streamed(raw=True), endless=True)


def test_a_memory_is_the_same_to_all_streams() -> None:
    made = code()
    assert made.streamed(raw=False) is made.streamed(raw=True) is made


def test_an_endless_shot_never_ends() -> None:
    space = code(rounds=10).spacetime
    middle = space.class_of(space.head, None)
    assert {space.class_of(r, None) for r in range(space.head, 10_000)} == {middle}
    far = space.components(10**9, 10**9 + 4, None)
    near = space.components(100, 104, None)
    assert (far.u_round - 10**9 == near.u_round - 100).all()
    key = space.window_key(100, 104, None)
    assert key == space.window_key(10**9, 10**9 + 4, None) == space.window_key(100, 104, 10**6)
    assert key != space.window_key(100, 104, 104 + space.tail - 1)


@given(
    st.lists(st.integers(0, 99), max_size=6),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.integers(2, 8),
    st.lists(st.integers(0, 99), max_size=6),
)
@settings(max_examples=300)
def test_repetition_found_is_one(
    head: list[int], body: list[int], times: int, tail: list[int]
) -> None:
    prints = np.array(head + body * times + tail, dtype=np.uint64)
    start, period, rest = find_repetition(prints)
    if period == 0:
        assert (start, rest) == (len(prints), 0)
        assert len(body) * times < 2 * len(body)
        return
    run = prints[start : len(prints) - rest]
    assert len(run) >= max(2 * period, len(body) * times - len(body))
    assert (run[period:] == run[:-period]).all()
    # The run cannot be made longer on either side.
    assert start == 0 or prints[start - 1] != prints[start - 1 + period]
    assert rest == 0 or prints[len(prints) - rest] != prints[len(prints) - rest - period]


def test_repetition_of_one_kind_is_period_one() -> None:
    assert find_repetition(np.array([9, 1, 1, 1, 1, 7], dtype=np.uint64)) == (1, 1, 1)
    assert find_repetition(np.array([1, 2, 3], dtype=np.uint64)) == (3, 0, 0)
    assert find_repetition(np.array([1], dtype=np.uint64)) == (1, 0, 0)
