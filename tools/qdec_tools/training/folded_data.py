"""Windows of the own family: events on the folded grid, with a label for every edge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qdec.codes import Code
from qdec.neural.folded import Architecture, prior_planes, static_planes
from qdec.neural.grid import SQUARES, Lattice
from qdec.windows.cut import cut, merge_parallel
from qdec.windows.geometry import Window
from qdec_tools.circuits import experiment
from qdec_tools.noise import NoiseModel
from qdec_tools.training.recipe import Mix
from qdec_tools.training.sampler import Sampler

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
BASES = ("z", "x")


@dataclass(frozen=True, slots=True)
class FoldedKind:
    """One kind of window, ready to be drawn from.

    Attributes:
        sampler: draws its events and labels.
        static: ``(static, T, H, W)`` float32 planes.
        prior: ``(channels, T, H, W)`` float32 log-odds.
        exists: ``(channels, T, H, W)`` bool: where there is an edge.
        cells: T * H * W.
    """

    sampler: Sampler
    static: Floats
    prior: Floats
    exists: NDArray[np.bool_]
    cells: int

    def sample(self, shots: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """Events ``(shots, 4, T, H, W)`` and labels ``(shots, channels, T, H, W)``, uint8."""
        return self.sampler.sample(shots, rng)


class FoldedSource:
    """Draws kinds of windows of rotated surface codes, in both bases."""

    def __init__(self, arch: Architecture) -> None:
        """Prepare nothing yet: kinds are made when they are first drawn."""
        self._arch = arch
        self._kind = lru_cache(maxsize=1024)(self._make)

    @property
    def bytes_per_cell(self) -> int:
        """Of a sample."""
        return len(SQUARES) + self._arch.channels

    def draw(self, mix: Mix, rng: np.random.Generator) -> FoldedKind:
        """One of a mix's kinds."""
        basis = BASES[int(rng.integers(2))]
        rounds = int(rng.choice(mix.rounds))
        return self._kind(mix, basis, rounds, float(rng.choice(mix.noise)))

    def _make(self, mix: Mix, basis: str, rounds: int, noise: float) -> FoldedKind:
        model = mix.noise_model(noise)
        return make_kind(self._arch, mix.distance, basis, mix.kind, rounds, model)


def make_kind(
    arch: Architecture, distance: int, basis: str, kind: str, rounds: int, noise: NoiseModel
) -> FoldedKind:
    """One kind of window of a rotated surface code."""
    long = kind != "whole"
    # Long enough that a window in the middle sees neither end.
    circuit_rounds = rounds + 8 if long else rounds - 1
    task = f"surface_code:rotated_memory_{basis}"
    code = Code.from_circuit(experiment(distance, circuit_rounds, noise, task))
    total = code.spacetime.rounds
    start = {"whole": 0, "first": 0, "middle": 4, "last": total - rounds}[kind]
    window = Window(start, start + rounds, rounds - code.spacetime.span, total)
    if kind in ("whole", "last"):
        window = Window(start, total, total - start, total)
    problem = cut(code.spacetime, window)
    grid = Lattice(code, arch.classes).grid(window, problem, merge_parallel(problem))
    static = static_planes(grid, arch.channels)
    return FoldedKind(
        Sampler(problem, grid, arch.channels),
        static,
        prior_planes(grid, arch.channels),
        static[4:] > 0,
        int(np.prod(grid.shape)),
    )
