"""Batches to train on: which kind of window a step has, and its events and labels.

What step k sees depends on the recipe and k alone, so a run that was interrupted, here or on
another machine, goes on as if it had not been.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from qdec.codes import Code
from qdec.neural.folded import Architecture, prior_planes, static_planes
from qdec.neural.grid import SQUARES, Lattice
from qdec.windows.cut import cut, merge_parallel
from qdec.windows.geometry import Window
from qdec_tools.circuits import experiment
from qdec_tools.noise import NoiseModel
from qdec_tools.training.feed import ALIGN, Feed, block_rng
from qdec_tools.training.recipe import Mix, Recipe
from qdec_tools.training.sampler import Sampler

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
BASES = ("z", "x")


@dataclass(frozen=True, slots=True)
class Kind:
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


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of one kind: events ``(B, 4, T, H, W)`` and labels ``(B, channels, T, H, W)``."""

    kind: Kind
    events: Bytes
    labels: Bytes


class Data:
    """The batches of a recipe, by number."""

    def __init__(self, recipe: Recipe, arch: Architecture) -> None:
        """Prepare nothing yet: kinds are made when they are first drawn from."""
        self._recipe = recipe
        self._arch = arch
        shares = np.array([one.share for one in recipe.data])
        self._shares = shares / shares.sum()
        self._kind = lru_cache(maxsize=1024)(self._make)

    def batch(self, step: int, stream: int = 0) -> Batch:
        """Batch number `step`; `stream` 0 is for training, others for checking."""
        rng = block_rng(self._recipe.seed, step, stream)
        kind = self._draw(rng)
        shots = max(1, self._recipe.cells // kind.cells)
        return Batch(kind, *kind.sampler.sample(shots, rng))

    def block(self, number: int) -> tuple[Bytes, Bytes]:
        """Events and labels of a training batch: what a `Feed` carries."""
        batch = self.batch(number)
        return batch.events, batch.labels

    def kind(self, step: int) -> Kind:
        """The kind of a training batch, without drawing it."""
        return self._draw(block_rng(self._recipe.seed, step))

    @property
    def largest_bytes(self) -> int:
        """Of any block."""
        sizes = [max(one.rounds) * ((one.distance + 2) // 2) ** 2 for one in self._recipe.data]
        cells = max(self._recipe.cells, *sizes)
        return cells * (len(SQUARES) + self._arch.channels) + 2 * ALIGN

    def _draw(self, rng: np.random.Generator) -> Kind:
        mix = self._recipe.data[int(rng.choice(len(self._shares), p=self._shares))]
        basis = BASES[int(rng.integers(2))]
        rounds = int(rng.choice(mix.rounds))
        return self._kind(mix, basis, rounds, float(rng.choice(mix.noise)))

    def _make(self, mix: Mix, basis: str, rounds: int, noise: float) -> Kind:
        model = mix.noise_model(noise)
        return make_kind(self._arch, mix.distance, basis, mix.kind, rounds, model)


class FedData:
    """The same batches, with those for training drawn ahead of time by other processes."""

    def __init__(self, recipe: Recipe, arch: Architecture, workers: int) -> None:
        """Start nothing yet: the workers begin with the first batch that is asked for.

        Args:
            recipe, arch: as `Data` takes them.
            workers: processes; with 0 all is drawn where it is asked for.
        """
        self._data = Data(recipe, arch)
        self._make = partial(Data, recipe, arch)
        self._workers = workers
        self._feed: Feed | None = None
        self._next = 0

    def batch(self, step: int, stream: int = 0) -> Batch:
        """Batch number `step`, valid until the next is asked for; see `Data.batch`.

        Raises:
            FeedError: a worker failed or died.
        """
        if stream or not self._workers:
            return self._data.batch(step, stream)
        if self._feed is None or step != self._next:
            self.close()
            size = self._data.largest_bytes
            self._feed = Feed(self._make, workers=self._workers, slot_bytes=size, first=step)
        events, labels = next(self._feed).arrays
        self._next = step + 1
        return Batch(self._data.kind(step), events, labels)

    def close(self) -> None:
        """End the workers."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None


def make_kind(
    arch: Architecture, distance: int, basis: str, kind: str, rounds: int, noise: NoiseModel
) -> Kind:
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
    return Kind(
        Sampler(problem, grid, arch.channels),
        static,
        prior_planes(grid, arch.channels),
        static[4:] > 0,
        int(np.prod(grid.shape)),
    )
