"""What a trainer must know of a kind of network, and the kinds that there are."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from qdec.neural.store import StoredModel
from qdec_tools.training.data import Batch
from qdec_tools.training.folded_family import FoldedFamily
from qdec_tools.training.ising_family import IsingFamily
from qdec_tools.training.recipe import IsingSizes, Recipe
from qdec_tools.training.trained import Tensors, Trained


class Family(Protocol):
    """Networks of one architecture: how they are made, fed, judged and kept."""

    @property
    def fixed(self) -> frozenset[str]:
        """Names of kernels that are not turned as a whole (`Muon`), but weight by weight."""

    @property
    def usual_cells(self) -> int:
        """Of a window of distance 5 and 6 rounds: losses are given per so many."""

    def net(self) -> Any:
        """A `torch.nn.Module`, its weights drawn from Torch's generator."""

    def inputs(self, batch: Batch, device: torch.device) -> tuple[Any, ...]:
        """What the network is shown of a batch."""

    def nats(self, output: Any, batch: Batch) -> Any:
        """Its loss, summed over the batch, from the network's output in float32."""

    def trained(self, weights: Tensors) -> Trained:
        """A network with these weights, as the service takes it."""

    def weights(self, stored: StoredModel) -> Tensors:
        """The weights of a model's file, under the names they have in `net`.

        Raises:
            ConfigError: it has another architecture.
            ModelError: it is of another family, or not sound.
        """


def family_of(recipe: Recipe) -> Family:
    """The family that a recipe trains."""
    if isinstance(recipe.network, IsingSizes):
        return IsingFamily(recipe.network.architecture)
    return FoldedFamily(recipe.network.architecture)
