"""The own family of networks: its architecture as data, and the planes it is given.

One network serves all windows of all distances: it is convolutional in space and time, and what
differs (which detectors exist, which edges, how likely each is) comes in as *static* planes, the
same for every syndrome of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.neural.grid import EdgeClasses, WindowGrid

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a network.

    Attributes:
        classes: the edges it knows.
        width: channels of the residual stream.
        inner: channels inside a block.
        blocks: residual blocks, each with one 3x3x3 convolution.
    """

    classes: EdgeClasses
    width: int
    inner: int
    blocks: int

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.classes.channels

    @property
    def static_channels(self) -> int:
        """Static input planes: detectors on each folded square, and one per output channel."""
        return 4 + self.channels

    @property
    def halo(self) -> int:
        """Rounds on either side that an output depends on: (receptive field - 1) / 2."""
        return 1 + self.blocks

    @property
    def macs_per_cell(self) -> int:
        """Multiply-accumulates per folded cell and round, static planes aside (they are the same
        for all syndromes of a window, and so computed once).
        """
        block = 2 * self.width * self.inner + 27 * self.inner**2
        return 27 * 4 * self.width + self.blocks * block + self.width * self.channels


def static_planes(grid: WindowGrid, channels: int) -> Floats:
    """``(4 + channels, T, H, W)`` float32: where detectors are, and each edge's prior.

    Priors are log-odds, moved and scaled to (0, 2) for p between 5e-5 and 0.12; zero where there is
    no edge.
    """
    cells = int(np.prod(grid.shape))
    planes = np.zeros((4 + channels) * cells, dtype=np.float32)
    planes[grid.node_at[grid.node_at >= 0]] = 1
    planes[4 * cells + grid.places] = np.clip((grid.prior + 10) / 4, 0.02, 2.5)
    return planes.reshape(4 + channels, *grid.shape)


def prior_planes(grid: WindowGrid, channels: int) -> Floats:
    """``(channels, T, H, W)`` float32: prior log-odds of each edge; zero where there is none."""
    planes = np.zeros(channels * int(np.prod(grid.shape)), dtype=np.float32)
    planes[grid.places] = grid.prior
    return planes.reshape(channels, *grid.shape)
