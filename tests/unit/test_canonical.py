"""Canonical labels: they say the same as before, with fewer flips, and one thing in one way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import stim
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qdec.neural.ising.patch import Orientation, Patch, patch
from qdec_tools.circuits import circuit
from qdec_tools.noise import NoiseModel, uniform
from qdec_tools.training.canonical import Moves, canonical_in_space, canonicalise
from qdec_tools.training.frames import Reader, Words, rounds_of

Parities = NDArray[np.uint64]


def parities(words: Words, checks: NDArray[np.bool_]) -> Parities:
    """``(T, n, W)`` flips → ``(T, m, W)``: the XOR of each check's rows."""
    return np.stack([np.bitwise_xor.reduce(words[:, row], axis=1) for row in checks], axis=1)


def weight(*words: Words) -> NDArray[np.int64]:
    """Flips of each shot."""
    bits = [np.unpackbits(w.view(np.uint8), axis=-1).sum(axis=(0, 1)) for w in words]
    return np.sum(bits, axis=0).astype(np.int64)


@dataclass(frozen=True)
class Labels:
    """Labels of one type, 64 shots of them."""

    patch: Patch
    kind: int
    c: Words
    m: Words

    @property
    def moves(self) -> Moves:
        return Moves.of(self.patch, self.kind)

    def events(self) -> Words:
        """The syndrome differences that they explain."""
        out = self.m ^ parities(self.c, self.patch.checks[self.kind])
        out[1:] ^= self.m[:-1]
        return out

    def logical(self) -> Words:
        """What they do to the logical operator of the type that checks them."""
        row = self.patch.logicals[self.kind][None]
        return np.bitwise_xor.reduce(parities(self.c, row), axis=0)

    def canonical(self, *, free_first: bool = False, free_last: bool = False) -> Labels:
        c, m = self.c.copy(), self.m.copy()
        canonicalise(c, m, self.moves, free_first=free_first, free_last=free_last)
        return Labels(self.patch, self.kind, c, m)


@st.composite
def labels(draw: st.DrawFn) -> Labels:
    on = patch(draw(st.sampled_from([3, 5, 7])), draw(st.sampled_from(Orientation)))
    rounds, halvings = draw(st.integers(2, 5)), draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def words(rows: int) -> Words:  # each bit set with probability 2^-(halvings + 1)
        shape = halvings + 1, rounds, rows, 1
        return np.bitwise_and.reduce(rng.integers(0, 2**64, shape, dtype=np.uint64))

    return Labels(on, draw(st.integers(0, 1)), words(on.distance**2), words(on.half))


@given(labels())
def test_nothing_that_can_be_seen_changes_and_flips_become_fewer(given_: Labels) -> None:
    made = given_.canonical()
    assert np.array_equal(made.events(), given_.events())
    assert np.array_equal(made.logical(), given_.logical())
    assert (weight(made.c, made.m) <= weight(given_.c, given_.m)).all()
    again = made.canonical()
    assert np.array_equal(again.c, made.c)
    assert np.array_equal(again.m, made.m)


@given(labels())
def test_no_rule_has_anything_left_to_do(given_: Labels) -> None:
    made = given_.canonical()
    c, m = (
        np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little").astype(int)
        for words in (made.c, made.m)
    )
    own, checks = given_.patch.checks[1 - given_.kind], given_.patch.checks[given_.kind]
    for stabiliser in own:
        touched = c[:, stabiliser]
        settled(touched.sum(axis=1), touched[:, 0], stabiliser.sum())
    for qubit, around in enumerate(checks.T):
        flips = c[:-1, qubit] + c[1:, qubit] + m[:-1, around].sum(axis=1)
        settled(flips, c[:-1, qubit], 2 + around.sum())


def settled(flips: NDArray[Any], first: NDArray[Any], places: int) -> None:
    """At most half of the places are flipped, and where it is half, the first among them."""
    assert (2 * flips <= places).all()
    assert first[2 * flips == places].all()


@given(labels(), st.booleans(), st.booleans())
def test_where_rounds_are_free_all_the_others_say_the_same(
    given_: Labels, free_first: bool, free_last: bool
) -> None:
    made = given_.canonical(free_first=free_first, free_last=free_last)
    seen = slice(1 if free_first else 0, -1 if free_last else None)
    assert np.array_equal(made.events()[seen], given_.events()[seen])
    assert not free_first or not made.c[0].any()
    assert not free_last or not made.c[-1].any()
    assert (weight(made.c, made.m) <= weight(given_.c, given_.m)).all()
    again = made.canonical(free_first=free_first, free_last=free_last)
    assert np.array_equal(again.c, made.c)
    assert np.array_equal(again.m, made.m)


@given(labels(), st.data())
def test_words_hold_shots_that_do_not_touch_each_other(given_: Labels, data: st.DataObject) -> None:
    shot = np.uint64(1 << data.draw(st.integers(0, 63)))
    alone = Labels(given_.patch, given_.kind, given_.c & shot, given_.m & shot).canonical()
    together = given_.canonical()
    assert np.array_equal(alone.c, together.c & shot)
    assert np.array_equal(alone.m, together.m & shot)


@pytest.mark.parametrize("orientation", Orientation)
@pytest.mark.parametrize("distance", [3, 5, 7])
@pytest.mark.parametrize("kind", [0, 1])
def test_a_flip_times_any_stabiliser_is_written_as_the_flip_alone(
    distance: int, orientation: Orientation, kind: int
) -> None:
    on = patch(distance, orientation)
    moves = Moves.of(on, kind)
    flips = np.concatenate(
        [np.zeros((1, distance**2), dtype=bool), np.eye(distance**2, dtype=bool)]
    )
    stabilisers = np.concatenate([np.zeros((1, distance**2), dtype=bool), on.checks[1 - kind]])
    every = (flips[:, None] ^ stabilisers[None]).reshape(-1, distance**2)
    c = np.where(every.T[None], np.uint64(1), np.uint64(0)).astype(np.uint64)
    canonical_in_space(c, moves)
    made = c[0].reshape(distance**2, len(flips), len(stabilisers))
    assert (made == made[..., :1]).all()
    assert (made.sum(axis=0) <= 1).all()


def faults(piece: stim.Circuit) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """Each thing that can go wrong: after which instruction, and what happens to which qubits."""
    pairs = [a + b for a in "IXYZ" for b in "IXYZ"][1:]
    for n, item in enumerate(piece):
        qubits = [target.value for target in item.targets_copy()]
        match item.name:
            case "DEPOLARIZE2":
                for one, two in zip(qubits[::2], qubits[1::2], strict=True):
                    for first, second in pairs:
                        yield n, [(p, q) for p, q in ((first, one), (second, two)) if p != "I"]
            case "DEPOLARIZE1":
                yield from ((n, [(pauli, q)]) for q in qubits for pauli in "XYZ")
            case "X_ERROR" | "Z_ERROR":
                yield from ((n, [(item.name[0], q)]) for q in qubits)


def happening(piece: stim.Circuit, at: int, what: list[tuple[str, int]]) -> stim.Circuit:
    """The piece with this fault, and no other."""
    out = stim.Circuit()
    for n, item in enumerate(piece):
        if item.name.startswith("DEPOLARIZE") or item.name.endswith("_ERROR"):
            if n == at:
                for pauli, qubit in what:
                    out.append(f"{pauli}_ERROR", [qubit], 1)
        else:
            out.append(item)
    return out


@pytest.mark.parametrize("orientation", [Orientation.XV, Orientation.ZH])
def test_faults_that_cannot_be_told_apart_have_one_label(orientation: Orientation) -> None:
    """Every single fault of a round in the middle: what it flips says its label."""
    rounds = 5
    on = patch(3, orientation)
    noisy = rounds_of(circuit(3, rounds, uniform(0.01), "Z", orientation))[:rounds]
    plain = circuit(3, rounds, NoiseModel(), "Z", orientation)
    reader, quiet = Reader(plain, on), rounds_of(plain)[:rounds]
    raw: dict[bytes, set[bytes]] = defaultdict(set)
    found: dict[bytes, set[bytes]] = defaultdict(set)
    for at, what in faults(noisy[2]):
        frames = reader.run([*quiet[:2], happening(noisy[2], at, what), *quiet[3:]], 1, 0)
        for kind in range(2):
            label = Labels(on, kind, frames.flips[kind], frames.wrong[kind])
            made = label.canonical()
            seen = bytes([kind]) + made.events().tobytes() + made.logical().tobytes()
            raw[seen].add(label.c.tobytes() + label.m.tobytes())
            found[seen].add(made.c.tobytes() + made.m.tobytes())
    assert {len(ways) for ways in found.values()} == {1}
    assert sum(len(ways) > 1 for ways in raw.values()) > len(raw) / 4  # it was needed
