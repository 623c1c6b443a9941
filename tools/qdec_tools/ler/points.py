"""What is measured: memory experiments over distances, rounds, noise and bases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import stim

from qdec.errors import DataError
from qdec.match import Tier
from qdec.windows import parse_geometry
from qdec_tools.circuits import experiment
from qdec_tools.noise import NOISE_MODELS, named_noise

Basis = Literal["x", "z"]
_TASKS: dict[Basis, str] = {
    "x": "surface_code:rotated_memory_x",
    "z": "surface_code:rotated_memory_z",
}
_MAX_DISTANCE = 63
_MAX_ROUNDS = 100_000
_MAX_POINTS = 1000
_LENGTH = re.compile(r"(\d{0,6})(d?)")


@dataclass(frozen=True, slots=True)
class Point:
    """One experiment, and the windows that its shots are decoded in.

    Attributes:
        distance: of the rotated surface code.
        rounds: of stabiliser measurement.
        noise: strength of the noise model.
        basis: of the memory.
        windows: as `parse_geometry` reads them, in rounds.
        noise_model: a name of `qdec_tools.noise.NOISE_MODELS`.
        models: the networks that tiers answer with, by name or file, instead of the package's.
    """

    distance: int
    rounds: int
    noise: float
    basis: Basis
    windows: str = "whole"
    noise_model: str = "uniform"
    models: tuple[tuple[Tier, str], ...] = ()

    def model(self, tier: Tier) -> str | None:
        """The network of a tier; None for the package's, if it has one."""
        return dict(self.models).get(tier)

    def circuit(self) -> stim.Circuit:
        """The experiment.

        Raises:
            CodeError: Stim cannot generate it, or the model has no such strength.
        """
        noise = named_noise(self.noise_model, self.noise)
        return experiment(self.distance, self.rounds, noise, _TASKS[self.basis])

    def __str__(self) -> str:
        """For logs and progress."""
        return f"d={self.distance} r={self.rounds} p={self.noise:g} {self.basis}"


def parse_points(
    distances: str,
    rounds: str,
    noise: str,
    basis: str = "x,z",
    windows: str = "whole",
    noise_model: str = "uniform",
    models: Sequence[str] = (),
) -> tuple[Point, ...]:
    """All combinations of comma-separated lists, ordered by distance.

    Args:
        distances: such as ``3,5,7``.
        rounds: numbers or multiples of the distance, such as ``d``, ``2d`` or ``20``.
        noise: probabilities, such as ``0.003,0.006``.
        basis: ``x``, ``z`` or both.
        windows: ``auto``, ``whole`` or ``W,C``, where W and C may be multiples of d, too.
        noise_model: a name of `NOISE_MODELS`.
        models: ``TIER=NAME`` each: networks by the names of `qdec model list`, or by their files.

    Raises:
        DataError: one of them is malformed or out of range.
        CodeError: the noise model has no such strength.
        GeometryError: the windows are malformed.
    """
    if noise_model not in NOISE_MODELS:
        known = ", ".join(NOISE_MODELS)
        raise DataError(f"--noise-model {noise_model}: the models are {known}")
    ds = sorted({_distance(word) for word in _words(distances, "--distances")})
    ps = [_probability(word) for word in _words(noise, "--noise")]
    for p in ps:
        named_noise(noise_model, p)
    own = tuple(sorted(dict(_model(word) for word in models).items()))
    bases = [_basis(word) for word in _words(basis, "--basis")]
    lengths = _words(rounds, "--rounds")
    points = [
        Point(d, _rounds(r, d), p, b, windows_at(windows, d), noise_model, own)
        for d, r, p, b in product(ds, lengths, ps, bases)
    ]
    points = list(dict.fromkeys(points))
    if len(points) > _MAX_POINTS:
        raise DataError(f"{len(points):,} experiments are too many: ask for at most {_MAX_POINTS}")
    return tuple(points)


def windows_at(text: str, distance: int) -> str:
    """Windows with multiples of d written out: ``2d,d`` at d=5 is ``10,5``.

    Raises:
        GeometryError: they are malformed.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [_length(part, distance) for part in parts]
    if len(parts) > 1 and None not in numbers:
        text = ",".join(map(str, numbers))
    return str(parse_geometry(text))


def _length(word: str, distance: int) -> int | None:
    """``7``, ``d`` or ``2d`` in rounds; None if it is none of these."""
    match = _LENGTH.fullmatch(word)
    if match is None or not word:
        return None
    number, unit = match.groups()
    return int(number or 1) * (distance if unit else 1)


def _words(text: str, option: str) -> Sequence[str]:
    words = [word.strip().lower() for word in text.split(",")]
    if not all(words):
        raise DataError(f"{option} '{text}': give values separated by commas")
    return list(dict.fromkeys(words))


def _distance(word: str) -> int:
    if not word.isdecimal() or not 2 <= int(word) <= _MAX_DISTANCE:
        raise DataError(f"--distances: '{word}' is not a distance from 2 to {_MAX_DISTANCE}")
    return int(word)


def _rounds(word: str, distance: int) -> int:
    rounds = _length(word, distance)
    if rounds is None or not 1 <= rounds <= _MAX_ROUNDS:
        raise DataError(
            f"--rounds: '{word}' is not d, a multiple of it like 2d, or a number of rounds from 1 "
            f"to {_MAX_ROUNDS}"
        )
    return rounds


def _probability(word: str) -> float:
    try:
        p = float(word)
    except ValueError:
        p = -1.0
    if not 0 < p <= 0.5:
        raise DataError(f"--noise: '{word}' is not a probability above 0 and up to 0.5")
    return p


def _model(word: str) -> tuple[Tier, str]:
    label, _, name = word.partition("=")
    if not name:
        raise DataError(f"--model {word}: write TIER=NAME, such as ising=ising-1")
    tier = Tier.from_label(label.strip())
    if not tier.takes_model:
        raise DataError(f"--model {word}: the {tier.label} tier has no network")
    return tier, name.strip()


def _basis(word: str) -> Basis:
    for basis in _TASKS:
        if word == basis:
            return basis
    raise DataError(f"--basis: '{word}' is neither x nor z")
