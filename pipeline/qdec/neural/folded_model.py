"""A model of the own family: loaded from the store, compiled for windows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from qdec.errors import ModelError
from qdec.neural.engine import CompiledNetwork, Precision, compile_network, precisions
from qdec.neural.folded import Architecture
from qdec.neural.grid import EdgeClasses
from qdec.neural.network import Network
from qdec.neural.quantised import SCALE, scales_of
from qdec.neural.store import StoredModel, load_model

FAMILY = "folded"


@dataclass(frozen=True, eq=False)
class FoldedModel:
    """A network and how to run it.

    Attributes:
        network: the weights.
        precision: of its arithmetic; None for the quickest that this machine has and the network
            is prepared for.
        threads: of the engine; None: as `qdec.neural.engine.use_threads` has it.
    """

    network: Network
    precision: Precision | None = None
    threads: int | None = None

    def compile(self, grid: Any) -> CompiledNetwork:
        """Compile for a window's grid (`qdec.neural.grid.WindowGrid`).

        Raises:
            ModelError: it is to run in 8 bits, and has no scales for that.
            EngineError: the engine cannot, on this machine.
        """
        precision = self.runs_in
        content = self.network.onnx(grid, quantised=precision == "int8")
        return compile_network(content, precision=precision, threads=self.threads)

    @property
    def runs_in(self) -> Precision:
        """The precision that it is compiled for."""
        if self.precision is not None:
            return self.precision
        return [one for one in precisions() if one != "int8" or self.network.scales][-1]


def as_metadata(arch: Architecture) -> dict[str, str]:
    """What a model's file says of an architecture; see `from_stored`."""
    sizes = {
        "width": arch.width,
        "inner": arch.inner,
        "blocks": arch.blocks,
        "classes": arch.classes.by_parity,
    }
    return {"family": FAMILY, "architecture": json.dumps(sizes)}


def from_stored(stored: StoredModel) -> Network:
    """The network of a model's file.

    Raises:
        ModelError: it is of another family, or its architecture, weights or scales are not sound.
    """
    info = stored.info
    if info.family != FAMILY:
        raise ModelError(f"model '{info.name}' is of the family {info.family}, not {FAMILY}")
    arch = _architecture(info.name, info.architecture)
    tensors = {
        name: np.asarray(value, dtype=np.float32)
        for name, value in stored.file.tensors.items()
        if value.dtype in (np.float16, np.float32) and not name.startswith(SCALE)
    }
    return Network(arch, tensors, scales_of(stored.file.tensors))


@cache
def shipped_model(name: str) -> FoldedModel:
    """The package's model of a name: those of the soft tiers are called as the tiers are.

    Raises:
        ModelError: there is none, or its file is damaged.
    """
    return FoldedModel(from_stored(load_model(name)))


def _architecture(name: str, sizes: Any) -> Architecture:
    try:
        if not isinstance(sizes, Mapping):
            raise TypeError
        even, odd = (
            tuple((int(t), int(i), int(j)) for t, i, j in offsets) for offsets in sizes["classes"]
        )
        arch = Architecture(
            EdgeClasses((even, odd)),
            int(sizes["width"]),
            int(sizes["inner"]),
            int(sizes["blocks"]),
        )
        if not (1 <= arch.width <= 4096 and 1 <= arch.inner <= 4096 and 0 <= arch.blocks <= 64):
            raise ValueError
        if not 1 <= arch.channels <= 256:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ModelError(f"the architecture of model '{name}' is not one of {FAMILY}'s") from None
    return arch
