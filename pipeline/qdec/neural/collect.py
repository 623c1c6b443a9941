"""Finding out which networks, of which sizes, a stream's windows will run, without running any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from qdec.neural import engine
from qdec.neural.engine import Engine, Floats, Precision, PrecisionChoice
from qdec.neural.onnx_model import Model, check_inputs


@dataclass(frozen=True, slots=True)
class Wanted:
    """A network that was run once at least.

    Attributes:
        content: the ONNX model.
        precision: that it was compiled for.
        size: (rounds, height, width) of a window.
    """

    content: bytes
    precision: Precision
    size: tuple[int, int, int]


@dataclass(slots=True)
class Collection:
    """What was asked for, each once, in order."""

    engine: Engine
    precision: PrecisionChoice
    wanted: dict[Wanted, None] = field(default_factory=dict)

    def network(self, model: Model, precision: Precision) -> _Silent:
        """A stand-in for a network: it says zeros, and remembers what it was asked."""
        return _Silent(model, precision, self.wanted)


class _Silent:
    """See `CompiledNetwork`."""

    def __init__(self, model: Model, precision: Precision, wanted: dict[Wanted, None]) -> None:
        self._model, self._precision, self._wanted = model, precision, wanted

    @property
    def channels(self) -> tuple[tuple[int, ...], int]:
        return tuple(shape[0] for shape in self._model.inputs), self._model.channels

    def __call__(self, *inputs: Floats) -> Floats:
        check_inputs(self._model, inputs)
        batch, _, rounds, height, width = inputs[0].shape
        self._wanted[Wanted(self._model.content, self._precision, (rounds, height, width))] = None
        return np.zeros((batch, self._model.channels, rounds, height, width), dtype=np.float32)


@contextmanager
def collecting(which: Engine, precision: PrecisionChoice = "auto") -> Iterator[Collection]:
    """In this process, within the block: `compile_network` compiles nothing and takes notes.

    Args:
        which: the engine that networks are wanted for, which need not be there.
        precision: as `qdec.neural.engine.use_engine` takes it.
    """
    found = Collection(which, precision)
    before = engine.collect_with(found)
    try:
        yield found
    finally:
        engine.collect_with(before)
