"""The own family of networks, in PyTorch: what `qdec train` trains.

A wide stream of channels over the folded grid, with residual blocks that squeeze it, look around
(3x3x3) and widen it again. The answer is added to the prior log-odds of each edge, so an untrained
network is plain matching, and noise levels come in through the prior.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qdec.neural.folded import Architecture


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
