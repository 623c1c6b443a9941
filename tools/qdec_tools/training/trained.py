"""What a training run leaves: averaged weights, and what the service takes them for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qdec.match import Tier
from qdec.match.models import Model
from qdec.neural.folded_model import FoldedModel, as_metadata
from qdec.neural.ising.model import compile_model
from qdec.neural.ising.network import Architecture, weights_of
from qdec.neural.network import Network
from qdec.neural.store import ISING

Tensors = Mapping[str, NDArray[np.float32]]


class Trained(Protocol):
    """A network of some family."""

    @property
    def tensors(self) -> Tensors:
        """Its weights, by name."""

    @property
    def tier(self) -> Tier:
        """That answers with it as it is, for a look at what it is worth."""

    def metadata(self) -> dict[str, str]:
        """Family and architecture, as a model's file says them."""

    def model(self) -> Model:
        """Ready to answer windows."""


@dataclass(frozen=True, eq=False)
class TrainedFolded:
    """A network of the own family."""

    network: Network
    tier = Tier.ACCURACY

    @property
    def tensors(self) -> Tensors:
        """See `Trained`."""
        return self.network.weights

    def metadata(self) -> dict[str, str]:
        """See `Trained`."""
        return as_metadata(self.network.arch)

    def model(self) -> FoldedModel:
        """See `Trained`."""
        return FoldedModel(self.network)


@dataclass(frozen=True, eq=False)
class TrainedIsing:
    """A stack of Ising's kind; tensors named so that their order is the layers'."""

    architecture: Architecture
    tensors: Tensors
    tier = Tier.ISING

    def metadata(self) -> dict[str, str]:
        """See `Trained`."""
        sizes = {"filters": self.architecture.filters, "kernels": self.architecture.kernels}
        return {"family": ISING, "architecture": json.dumps(sizes)}

    def model(self) -> Model:
        """See `Trained`."""
        return compile_model(weights_of(self.architecture, self.tensors))
