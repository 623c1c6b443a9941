"""Networks of Ising's kind, in PyTorch: a plain stack of 3-D convolutions.

The published training code is not repeated here: the shapes, the activation (GELU, tanh form) and
the meaning of inputs and outputs are (`qdec.neural.ising`), so what is trained here is served, and
exported, as the published models are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import softplus

from qdec.errors import ConfigError
from qdec.neural.ising.model import stored_weights
from qdec.neural.ising.network import CHANNELS, Architecture
from qdec.neural.store import StoredModel
from qdec_tools.training.data import Batch
from qdec_tools.training.trained import Tensors, TrainedIsing

# Log-odds of every correction before anything is learned: about how rare they are at p = 0.006.
_RARE = -5.0


class IsingNet(nn.Module):
    """``(B, 4, T, D, D)`` differences and presences → log-odds of c_Z, c_X, m_X, m_Z."""

    def __init__(self, arch: Architecture) -> None:
        """Make a network that corrects nothing: its last layer starts level, far below zero."""
        super().__init__()
        inputs = (CHANNELS, *arch.filters[:-1])
        self.layers = nn.ModuleList(
            nn.Conv3d(n_in, n_out, k, padding=k // 2)
            for n_in, n_out, k in zip(inputs, arch.filters, arch.kernels, strict=True)
        )
        for layer in self.layers[:-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.constant_(self.layers[-1].bias, _RARE)

    def forward(self, x: Any) -> Any:
        """See the class."""
        for layer in self.layers[:-1]:
            x = nn.functional.gelu(layer(x), approximate="tanh")
        return self.layers[-1](x)


class IsingFamily:
    """See `qdec_tools.training.family.Family`."""

    usual_cells = 150

    def __init__(self, arch: Architecture) -> None:
        """Of networks of one architecture."""
        self._arch = arch
        last = len(arch.filters) - 1
        # First and last layer map from and to planes that mean something each.
        self.fixed = frozenset({"layers.0.weight", f"layers.{last}.weight"})

    def net(self) -> IsingNet:
        """See `Family`."""
        return IsingNet(self._arch)

    def inputs(self, batch: Batch, device: torch.device) -> tuple[Any]:
        """``(B, 4, past + T, D, D)``: quiet rounds, then the window's."""
        kind = batch.kind
        presence = torch.from_numpy(kind.presence).to(device)
        shots = len(batch.events)
        x = torch.zeros((shots, CHANNELS, *presence.shape[1:]), device=device)
        x[:, :2, kind.past :] = torch.from_numpy(batch.events).to(device)
        x[:, 2:] = presence
        return (x,)

    def nats(self, logits: Any, batch: Batch) -> Any:
        """-log P(labels), where a correction can be."""
        logits = logits[:, :, batch.kind.past :]
        labels = torch.from_numpy(batch.labels).to(logits.device)
        exists = torch.from_numpy(batch.kind.exists).to(logits.device)
        return ((softplus(logits) - logits * labels) * exists).sum()

    def trained(self, weights: Tensors) -> TrainedIsing:
        """See `Family`."""
        return TrainedIsing(self._arch, weights)

    def weights(self, stored: StoredModel) -> Tensors:
        """See `Family`. Published models will do, too."""
        found = stored_weights(stored)
        if found.architecture != self._arch:
            raise ConfigError("the model to start from has another architecture than the recipe")
        pairs = enumerate(zip(found.kernels, found.biases, strict=True))
        out = {}
        for i, (kernel, bias) in pairs:
            out[f"layers.{i}.weight"], out[f"layers.{i}.bias"] = kernel, bias
        return out
