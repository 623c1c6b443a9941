"""Batches to train on: which kind of window a step has, and its events and labels.

What step k sees depends on the recipe and k alone, so a run that was interrupted, here or on
another machine, goes on as if it had not been.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qdec_tools.training.feed import ALIGN, Feed, block_rng
from qdec_tools.training.folded_data import FoldedSource
from qdec_tools.training.ising_source import IsingSource
from qdec_tools.training.recipe import IsingSizes, Mix, Recipe

Bytes = NDArray[np.uint8]


class Kind(Protocol):
    """One kind of window, ready to be drawn from."""

    @property
    def cells(self) -> int:
        """Of its grid, all rounds together."""

    def sample(self, shots: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """Events and labels of some windows."""


class Source(Protocol):
    """Where kinds come from: one for each family of networks."""

    @property
    def bytes_per_cell(self) -> int:
        """Of a window's events and labels."""

    def draw(self, mix: Mix, rng: np.random.Generator) -> Kind:
        """One of a mix's kinds, the same object whenever it is the same kind."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of one kind, uint8 events and labels; their shapes are the kind's.

    Attributes:
        kind: what else is known of them, as the family has it.
        events, labels: one row for each window.
    """

    kind: Any
    events: Bytes
    labels: Bytes


class Data:
    """The batches of a recipe, by number."""

    def __init__(self, recipe: Recipe) -> None:
        """Prepare nothing yet: kinds are made when they are first drawn from."""
        self._recipe = recipe
        self._source = source(recipe)
        shares = np.array([one.share for one in recipe.data])
        self._shares = shares / shares.sum()

    def batch(self, step: int, stream: int = 0) -> Batch:
        """Batch number `step`; `stream` 0 is for training, others for checking."""
        rng = block_rng(self._recipe.seed, step, stream)
        kind = self._draw(rng)
        shots = max(1, self._recipe.cells // kind.cells)
        return Batch(kind, *kind.sample(shots, rng))

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
        return self._recipe.cells * self._source.bytes_per_cell + 2 * ALIGN

    def _draw(self, rng: np.random.Generator) -> Kind:
        mix = self._recipe.data[int(rng.choice(len(self._shares), p=self._shares))]
        return self._source.draw(mix, rng)


class FedData:
    """The same batches, with those for training drawn ahead of time by other processes."""

    def __init__(self, recipe: Recipe, workers: int) -> None:
        """Start nothing yet: the workers begin with the first batch that is asked for.

        Args:
            recipe: as `Data` takes it.
            workers: processes; with 0 all is drawn where it is asked for.
        """
        self._data = Data(recipe)
        self._make = partial(Data, recipe)
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


def source(recipe: Recipe) -> Source:
    """Of the windows that a recipe's family is trained on."""
    if isinstance(recipe.network, IsingSizes):
        return IsingSource(recipe.network.architecture)
    return FoldedSource(recipe.network.architecture)
