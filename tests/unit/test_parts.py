"""A code is divided only where no mechanism crosses, and alike for every length of a shot."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import stim

from helpers.circuits import (
    REPETITION,
    ROTATED_X,
    ROTATED_Z,
    UNROTATED_Z,
    code,
    memory,
    two_patches,
    without_reset,
)
from qdec.codes import Code, Part
from qdec.errors import CodeError

SURFACE = (ROTATED_Z, ROTATED_X, UNROTATED_Z)


def pieces(dem: stim.DetectorErrorModel) -> list[set[int]]:
    """Connected components of the matching graph, by walking Stim's own model."""
    neighbours: dict[int, set[int]] = {d: set() for d in range(dem.num_detectors)}
    for item in dem.flattened():
        if item.type == "error":
            for group in item.target_groups():
                ends = [t.val for t in group if t.is_relative_detector_id()]
                for a, b in itertools.permutations(ends, 2):
                    neighbours[a].add(b)
    found, seen = [], set[int]()
    for start in neighbours:
        reached, edge = {start}, [start]
        while start not in seen and edge:
            edge = [n for at in edge for n in neighbours[at] - reached]
            reached.update(edge)
        if start not in seen:
            found.append(reached)
            seen |= reached
    return found


def held(made: Code, part: Part, length: int | None = None) -> set[int]:
    """A part's detectors in the template's own numbers."""
    length = length or made.spacetime.rounds
    nodes = part.nodes(0, length, length).reshape(length, -1)
    layout = made.layout
    return {
        d
        for d, (r, b) in enumerate(zip(layout.round_of, layout.bit_of, strict=True))
        if nodes[r, b]
    }


@pytest.mark.parametrize("d", [3, 5])
@pytest.mark.parametrize("task", SURFACE)
def test_a_surface_code_is_divided_by_basis(task: str, d: int) -> None:
    made = code(task, d)
    parts = made.split(2)
    assert [held(made, part) for part in parts] == sorted(pieces(made.dem), key=len, reverse=True)
    assert [(p.index, p.of) for p in parts] == [(0, 2), (1, 2)]
    for part in parts:
        for detector in held(made, part):
            where = int(made.layout.round_of[detector]), int(made.layout.bit_of[detector])
            assert part.holds(*where, made.spacetime.rounds)


def test_bits_that_are_no_detectors_are_nobodys() -> None:
    made = code()
    nodes = [part.nodes(0, made.spacetime.rounds, made.spacetime.rounds) for part in made.split(2)]
    assert not (nodes[0] & nodes[1]).any()
    assert (nodes[0] | nodes[1]).sum() == made.layout.num_detectors


@pytest.mark.parametrize("rounds", [7, 12, 40])
@pytest.mark.parametrize("make", [memory, lambda **how: without_reset(memory(**how))])
def test_a_stretched_template_is_divided_as_the_longer_circuit(make: object, rounds: int) -> None:
    circuit = make(rounds=rounds)
    longer, template = Code.from_circuit(circuit), Code.from_circuit(make(rounds=10))
    length = longer.spacetime.rounds
    for theirs, ours in zip(longer.split(2), template.split(2), strict=True):
        assert held(longer, theirs) == held(longer, Part(0, 2, template.spacetime, ours._members))
        np.testing.assert_array_equal(
            theirs.nodes(0, length, length), ours.nodes(0, length, length)
        )


def test_an_endless_shot_has_the_same_parts_as_one_whose_end_is_far() -> None:
    for part in code().split(2):
        np.testing.assert_array_equal(part.nodes(3, 90, None), part.nodes(3, 90, 101))


def test_pieces_are_shared_out_evenly() -> None:
    """Four pieces for two or three lanes: no lane has both of the larger ones."""
    made = Code.from_circuit(two_patches(memory(rounds=6)))
    sizes = sorted(map(len, pieces(made.dem)), reverse=True)
    assert len(sizes) == 4
    for count, expected in ((2, [sizes[0] + sizes[2]] * 2), (3, [*sizes[:2], 2 * sizes[2]])):
        assert sorted(len(held(made, p)) for p in made.split(count)) == sorted(expected)
    assert len(made.split(4)) == 4


def test_the_same_parts_every_time() -> None:
    again = Code.from_circuit(memory())
    assert again is not code()
    for one, other in zip(code().split(2), again.split(2), strict=True):
        assert one == other
        np.testing.assert_array_equal(one._members, other._members)


def ladder(rounds: int, *, crossed: bool) -> Code:
    """Two bits per round that are joined through time, straight or crossing in every round."""
    lines = []
    for r in range(rounds):
        here, there = (2 * r, 2 * r + 1), (2 * r + 2, 2 * r + 3)
        lines += [f"detector({b}, 0, {r}) D{here[b]}" for b in (0, 1)]
        lines += [f"error(0.01) D{here[0]} L0", f"error(0.01) D{here[1]} L1"]
        if r + 1 < rounds:
            lines += [f"error(0.02) D{here[b]} D{there[b ^ crossed]}" for b in (0, 1)]
    return Code.parse("dem", "\n".join(lines))


def test_what_is_apart_in_one_shot_but_not_round_for_round_is_not_divided() -> None:
    """Each chain visits both bits: which round is whose would depend on where one starts."""
    assert len(pieces(ladder(8, crossed=True).dem)) == 2
    assert len(ladder(8, crossed=False).split(2)) == 2
    with pytest.raises(CodeError, match="at most one lane"):
        ladder(8, crossed=True).split(2)


def test_without_a_repetition_nothing_has_to_agree() -> None:
    made = ladder(2, crossed=True)
    assert made.spacetime.period == 0
    assert [held(made, part) for part in made.split(2)] == pieces(made.dem)


def test_mechanisms_that_only_longer_shots_have_count() -> None:
    """Of the template's two repeating rounds none is three rounds behind another."""
    rounds, reach = 5, 3
    lines = []
    for r in range(rounds):
        lines += [f"detector({b}, 0, {r}) D{2 * r + b}" for b in (0, 1)]
        p = 0.01 * max(1, r)  # no two rounds of the tail are alike
        lines += [f"error({p}) D{2 * r} L0", f"error({p}) D{2 * r + 1} L1"]
        if r + reach < rounds:
            lines += [f"error(0.02) D{2 * r} D{2 * (r + reach) + 1}"]
    made = Code.parse("dem", "\n".join(lines))
    space = made.spacetime
    assert (space.head, space.period, space.tail) == (0, 1, 3)
    for length, part in itertools.product((3, 4, 5, 6, 7, 30), made.split(2)):
        c = space.components(0, length, length)
        pair = (c.v_round >= 0) & (c.v_round < length)
        nodes = part.nodes(0, length, length).reshape(length, -1)
        ends = nodes[c.u_round[pair], c.u_bit[pair]], nodes[c.v_round[pair], c.v_bit[pair]]
        assert len(ends[0]) == length - reach
        np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize(
    ("made", "most"), [(code(REPETITION), "one lane"), (code(), "2 lanes can share")]
)
def test_a_code_with_too_few_pieces_is_refused(made: Code, most: str) -> None:
    with pytest.raises(CodeError, match=most):
        made.split(3)


def test_detectors_that_nothing_flips_are_in_the_first_part() -> None:
    dem = "error(0.1) D0 L0\nerror(0.2) D2\n"
    dem += "\n".join(f"detector({d}, 0, 0) D{d}" for d in range(4))
    made = Code.parse("dem", dem)
    assert [held(made, part) for part in made.split(2)] == [{0, 1, 3}, {2}]
