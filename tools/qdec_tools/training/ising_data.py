"""Ising's training samples: its tensors, with labels (c, m) made canonical.

Inputs are ``(B, 4, T, D, D)`` float32 (X and Z syndrome differences, X and Z presence), labels
``(B, 4, T, D, D)`` uint8 (c_Z, c_X, m_X, m_Z), as `qdec.neural.ising` lays them out.

A whole shot is T - 1 noisy rounds and one that measures what is there: a perfect round, as Ising
has it, or the data's readout with its noise, as experiments have it. A crop is T rounds out of a
longer experiment: where it begins in the middle, the measurements before it that were wrong are
taken to be known, as they are to a window whose predecessor has been committed (its seam); where it
ends in the middle, what the next rounds would have told is missing. Labels are canonical among the
rounds around the crop, too, which are then cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qdec.errors import ConfigError
from qdec.neural.ising.patch import KINDS, Basis, Orientation, patch
from qdec_tools.circuits import circuit
from qdec_tools.noise import NoiseModel
from qdec_tools.training.canonical import Moves, canonicalise
from qdec_tools.training.feed import ALIGN, block_rng
from qdec_tools.training.frames import WORD, Frames, Reader, Words, rounds_of

# Rounds around a crop among which labels are made canonical: changes reach two rounds at a time,
# and further only through chains of them.
_AROUND = 3
MAX_DISTANCE = 31
MAX_ROUNDS = 1024
# Bytes of one batch's inputs.
_MAX_BYTES = 1 << 32
End = Literal["perfect", "readout", "middle"]
ENDS: tuple[End, ...] = ("perfect", "readout", "middle")
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of sample.

    Attributes:
        distance: D, odd, from 3 to `MAX_DISTANCE`.
        rounds: T, from 2 to `MAX_ROUNDS`.
        noise: of the noisy rounds.
        basis: of the memory experiment.
        orientation: of the patch.
        starts: the first round follows the preparation; else it is one of the middle.
        end: what the last round is: ``perfect``, the data's ``readout``, or one of the ``middle``.
    """

    distance: int
    rounds: int
    noise: NoiseModel
    basis: Basis = "Z"
    orientation: Orientation = Orientation.XV
    starts: bool = True
    end: End = "perfect"

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ConfigError: one is exceeded.
        """
        if self.distance % 2 == 0 or not 3 <= self.distance <= MAX_DISTANCE:
            raise ConfigError(f"distance = {self.distance}: write an odd one, 3 to {MAX_DISTANCE}")
        if not 2 <= self.rounds <= MAX_ROUNDS:
            raise ConfigError(f"rounds = {self.rounds}: write 2 to {MAX_ROUNDS}")
        if self.basis not in KINDS:
            raise ConfigError(f"basis = {self.basis!r}: write X or Z")
        if self.end not in ENDS:
            raise ConfigError(f"end = {self.end!r}: write {', '.join(ENDS)}")


def kinds(
    distances: Iterable[int],
    noises: Iterable[NoiseModel],
    *,
    rounds: int | None = None,
    bases: Sequence[Basis] = KINDS,
    orientations: Sequence[Orientation] = tuple(Orientation),
    starts: Sequence[bool] = (True, False),
    ends: Sequence[End] = ENDS,
) -> tuple[Kind, ...]:
    """All combinations: what a training run draws from.

    Args:
        distances, noises, bases, orientations, starts, ends: to combine; see `Kind`.
        rounds: T; by default that of each distance.

    Raises:
        ConfigError: as `Kind`.
    """
    return tuple(
        Kind(distance, rounds or distance, noise, basis, orientation, start, end)
        for distance, noise, basis, orientation, start, end in product(
            distances, noises, bases, orientations, starts, ends
        )
    )


class IsingSampler:
    """Draws samples of one kind.

    Attributes:
        kind: of the samples.
        patch: they are of.
        shape: (4, T, D, D).
        presence: ``(2, T, D, D)`` float32: the other two planes of every sample.
    """

    def __init__(self, kind: Kind) -> None:
        """Lay the kind's circuit and tables out."""
        self.kind = kind
        self.patch = patch(kind.distance, kind.orientation)
        self.shape = (4, kind.rounds, kind.distance, kind.distance)
        noisy = circuit(kind.distance, 2, kind.noise, kind.basis, kind.orientation)
        first, middle, readout = rounds_of(noisy)
        plain = circuit(kind.distance, 2, NoiseModel(), kind.basis, kind.orientation)
        self._reader = Reader(plain, self.patch)
        self._before = 0 if kind.starts else _AROUND
        self._pieces = [middle] * (self._before + kind.rounds)
        if kind.starts:
            self._pieces[0] = first
        match kind.end:
            case "perfect":
                self._pieces[-1] = rounds_of(plain)[1]
            case "readout":
                self._pieces[-1] = readout
            case "middle":
                self._pieces += [middle] * _AROUND
        self._moves = Moves.of(self.patch, 0), Moves.of(self.patch, 1)
        size, t = kind.distance**2, np.arange(kind.rounds)[:, None]
        cells = [t * size + cell for cell in self.patch.cells]
        data = t * size + np.arange(size)
        volume = kind.rounds * size
        self._input_at = np.stack(cells) + np.array([0, volume])[:, None, None]
        self._flips_at = np.stack([data, data + volume])
        self._wrong_at = np.stack(cells) + np.array([2, 3])[:, None, None] * volume
        presence = np.repeat(self.patch.presence.reshape(2, 1, size), kind.rounds, axis=1)
        other = 1 - KINDS.index(kind.basis)
        self._ends = kind.end != "middle"
        self._masked = [0] * kind.starts + [kind.rounds - 1] * self._ends
        presence[other, self._masked] = 0
        self.presence = presence.reshape(2, *self.shape[1:])
        self._other = other

    def sample(
        self, shots: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Draw samples.

        Args:
            shots: how many.
            rng: seeds Stim's generator.

        Returns:
            ``(shots, 4, T, D, D)`` float32 inputs and uint8 labels; see the module.

        Raises:
            ConfigError: none, or so many that they take more than 4 GiB.
        """
        shape = (shots, *self.shape)
        _bytes(shape)
        inputs, labels = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.uint8)
        self.fill(inputs, labels, rng)
        return inputs, labels

    def fill(
        self, inputs: NDArray[np.float32], labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> None:
        """`sample` into arrays that are there already, C-contiguous and of those shapes."""
        inputs[:, :2] = 0
        inputs[:, 2:] = self.presence
        labels[:] = 0
        self._write(inputs, labels, rng)

    def sample_events(self, shots: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """`sample` without the presences, which are the same for all samples.

        Returns:
            ``(shots, 2, T, D, D)`` uint8 X and Z syndrome differences, and the labels.

        Raises:
            ConfigError: as `sample`.
        """
        _bytes((shots, *self.shape))
        events = np.zeros((shots, 2, *self.shape[1:]), dtype=np.uint8)
        labels = np.zeros((shots, *self.shape), dtype=np.uint8)
        self._write(events, labels, rng)
        return events, labels

    def _write(self, events: NDArray[Any], labels: Bytes, rng: np.random.Generator) -> None:
        """Set what is 1 in planes of zeros, the first two of `events`."""
        shots = len(events)
        frames = self.frames(shots, int(rng.integers(1 << 63)))
        for at, words, out in (
            (self._input_at, frames.differences, events),
            (self._flips_at, frames.flips, labels),
            (self._wrong_at, frames.wrong, labels),
        ):
            flat = out.reshape(shots, -1)
            _scatter(words.reshape(-1, words.shape[-1]), at.reshape(-1), flat)

    def frames(self, shots: int, seed: int) -> Frames:
        """The same as words: canonical labels, and differences as a network may see them."""
        readout = self.kind.end == "readout"
        found = self._reader.run(self._pieces, shots, seed, readout=readout)
        for kind, moves in enumerate(self._moves):
            unseen = kind == self._other
            canonicalise(
                found.flips[kind],
                found.wrong[kind],
                moves,
                free_first=unseen and self.kind.starts,
                free_last=unseen and self._ends,
            )
        first, last = self._before, self._before + self.kind.rounds
        seen = found.differences[:, first:last]
        if first:
            seen[:, 0] ^= found.wrong[:, first - 1]
        seen[self._other, self._masked] = 0
        return Frames(found.flips[:, first:last], found.wrong[:, first:last], seen)


class IsingMix:
    """Draws batches, each of a kind drawn from several."""

    def __init__(self, of: Sequence[Kind]) -> None:
        """Take the kinds; what each needs is made when it is first drawn.

        Raises:
            ConfigError: there are none.
        """
        if not of:
            raise ConfigError("there are no kinds of samples to draw from")
        self._kinds = tuple(of)
        self._samplers: dict[Kind, IsingSampler] = {}

    def draw(self, rng: np.random.Generator) -> IsingSampler:
        """The sampler of one of the kinds, each as likely."""
        kind = self._kinds[int(rng.integers(len(self._kinds)))]
        if kind not in self._samplers:
            self._samplers[kind] = IsingSampler(kind)
        return self._samplers[kind]

    def sample(
        self, shots: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Draw a kind, then samples of it; see `IsingSampler.sample`."""
        return self.draw(rng).sample(shots, rng)


class IsingBlocks:
    """Batches by number, for a `Feed`: each (inputs, labels), of one kind.

    Attributes:
        largest_bytes: of any of them.
    """

    def __init__(self, of: Sequence[Kind], shots: int, seed: int, stream: int = 0) -> None:
        """Draw `shots` samples for a block.

        Args:
            of: kinds to draw from, as `IsingMix`.
            shots: in a block.
            seed, stream: as `block_rng` takes them.

        Raises:
            ConfigError: there are no kinds, or a block takes too much memory.
        """
        self._mix = IsingMix(of)
        self._shots = shots
        self._seed = seed, stream
        shapes = [(shots, 4, kind.rounds, kind.distance, kind.distance) for kind in of]
        self.largest_bytes = max(_bytes(shape) for shape in shapes) * 5 // 4 + 2 * ALIGN
        self._arrays: dict[tuple[int, ...], tuple[NDArray[np.float32], NDArray[np.uint8]]] = {}

    def block(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Block `number`; the arrays are used again for others."""
        seed, stream = self._seed
        rng = block_rng(seed, number, stream)
        sampler = self._mix.draw(rng)
        shape = (self._shots, *sampler.shape)
        if shape not in self._arrays:
            self._arrays[shape] = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.uint8)
        sampler.fill(*self._arrays[shape], rng)
        return self._arrays[shape]


def _bytes(shape: tuple[int, ...]) -> int:
    """Of a batch's inputs.

    Raises:
        ConfigError: more than 4 GiB, or nothing.
    """
    wanted = math.prod(shape) * 4
    if not 0 < wanted <= _MAX_BYTES:
        raise ConfigError(f"{shape[0]:,} samples in a batch: write 1 or more, of 4 GiB at most")
    return wanted


@njit(cache=True)
def _scatter(words: Words, at: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Write 1 to ``out[shot, at[row]]`` for each bit that is set; few are."""
    one = np.uint64(1)
    for row in range(words.shape[0]):
        for w in range(words.shape[1]):
            word = words[row, w]
            shot = w * WORD
            while word:
                while not word & np.uint64(0xFF):
                    word >>= np.uint64(8)
                    shot += 8
                while not word & one:
                    word >>= one
                    shot += 1
                if shot < out.shape[0]:
                    out[shot, at[row]] = 1
                word >>= one
                shot += 1
