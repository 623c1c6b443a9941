"""The own family of networks, in PyTorch.

A wide stream of channels over the folded grid, with residual blocks that squeeze it, look around
(3x3x3) and widen it again. The answer is added to the prior log-odds of each edge, so an untrained
network is plain matching, and noise levels come in through the prior.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import softplus

from qdec.errors import ConfigError
from qdec.neural.folded import Architecture
from qdec.neural.folded_model import from_stored
from qdec.neural.network import Network
from qdec.neural.store import StoredModel
from qdec_tools.training.data import Batch
from qdec_tools.training.trained import Tensors, TrainedFolded


class FoldedNet(nn.Module):
    """Events of a window → log-odds of its edges.

    Two inputs: events ``(B, 4, T, H, W)`` of 0 and 1, and the window's static planes
    ``(1, static, T, H, W)``, the same for all (see `qdec.neural.folded.static_planes`). Output
    ``(B, channels, T, H, W)``: what is to be added to the prior log-odds.
    """

    def __init__(self, arch: Architecture) -> None:
        """Make a network that changes nothing: its last layer starts at zero."""
        super().__init__()
        width, inner = arch.width, arch.inner
        self.events = nn.Conv3d(4, width, 3, padding=1)
        self.static = nn.Conv3d(arch.static_channels, width, 3, padding=1, bias=False)
        self.squeeze = nn.ModuleList(nn.Conv3d(width, inner, 1) for _ in range(arch.blocks))
        self.look = nn.ModuleList(nn.Conv3d(inner, inner, 3, padding=1) for _ in range(arch.blocks))
        self.widen = nn.ModuleList(nn.Conv3d(inner, width, 1) for _ in range(arch.blocks))
        self.head = nn.Conv3d(width, arch.channels, 1)
        for layer in self.widen:  # small at first: the stream goes through nearly as it is
            nn.init.normal_(layer.weight, std=0.05)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, events: Any, static: Any) -> Any:
        """See the class."""
        x = self.events(events) + self.static(static)
        for squeeze, look, widen in zip(self.squeeze, self.look, self.widen, strict=True):
            inner = torch.relu(squeeze(torch.relu(x)))
            x = x + widen(torch.relu(look(inner)))
        return self.head(torch.relu(x))


class FoldedFamily:
    """See `qdec_tools.training.family.Family`."""

    # First and last layer map to and from planes that mean something each.
    fixed = frozenset({"events.weight", "static.weight", "head.weight"})
    usual_cells = 54

    def __init__(self, arch: Architecture) -> None:
        """Of networks of one architecture."""
        self._arch = arch

    def net(self) -> FoldedNet:
        """See `Family`."""
        return FoldedNet(self._arch)

    def inputs(self, batch: Batch, device: torch.device) -> tuple[Any, Any]:
        """Events ``(B, 4, T, H, W)`` and static planes ``(1, static, T, H, W)``."""
        events = torch.from_numpy(batch.events).to(device)
        static = torch.from_numpy(batch.kind.static).to(device)[None]
        return events.to(torch.float32), static

    def nats(self, change: Any, batch: Batch) -> Any:
        """-log P(labels), where there is an edge; `change` is added to the prior log-odds."""
        device = change.device
        logits = change + torch.from_numpy(batch.kind.prior).to(device)
        labels = torch.from_numpy(batch.labels).to(device)
        exists = torch.from_numpy(batch.kind.exists).to(device)
        return ((softplus(logits) - logits * labels) * exists).sum()

    def trained(self, weights: Tensors) -> TrainedFolded:
        """See `Family`."""
        return TrainedFolded(Network(self._arch, dict(weights)))

    def weights(self, stored: StoredModel) -> Tensors:
        """See `Family`."""
        network = from_stored(stored)
        if network.arch != self._arch:
            raise ConfigError("the model to start from has another architecture than the recipe")
        return network.weights
