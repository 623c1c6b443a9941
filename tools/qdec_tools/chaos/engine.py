"""An accelerator whose engine stalls, slows down, or says what is no answer, when a file says so.

Everything around the engine is the service's own. What a garbled network says depends on nothing
but what the real one says, so that a replay can say the same.
"""

from __future__ import annotations

import time

import numpy as np

from qdec.accelerator.executor import Executor
from qdec.accelerator.process import Accelerator
from qdec.bits import Bytes
from qdec.child import main
from qdec.errors import EngineError
from qdec.match.soft import SoftWindow
from qdec.match.tier import CompiledWindow
from qdec.neural.engine import CompiledNetwork, Floats
from qdec_tools.chaos.changed import told

FAULT = "engine"
STALLS, SLOW, NAN, GARBAGE, FAILS = "stalls", "slow", "nan", "garbage", "fails"
_SLOW_S, _LOOK_S = 0.02, 0.005


class FailingNetwork:
    """Another network, until a file says how it fails. See `CompiledNetwork`."""

    def __init__(self, network: CompiledNetwork) -> None:
        """Wrap it."""
        self._network = network

    @property
    def channels(self) -> tuple[tuple[int, ...], int]:
        """See `CompiledNetwork.channels`."""
        return self._network.channels

    def __call__(self, *inputs: Floats) -> Floats:
        """See `CompiledNetwork.__call__`."""
        fault = told(FAULT)
        while told(FAULT) == STALLS:
            time.sleep(_LOOK_S)
        if fault == SLOW:
            time.sleep(_SLOW_S)
        if fault == FAILS:
            raise EngineError("as the harness has told it")
        output = self._network(*inputs)
        if fault == NAN:
            return np.full_like(output, np.nan)
        return garbled(output) if fault == GARBAGE else output


class GarbledNetwork(FailingNetwork):
    """Another network's opposite."""

    def __call__(self, *inputs: Floats) -> Floats:
        """See `CompiledNetwork.__call__`."""
        return garbled(self._network(*inputs))


def garbled(output: Floats) -> Floats:
    """What an engine that fails says: finite, confident, and the opposite of the truth."""
    return -output


def garble(decoder: CompiledWindow) -> None:
    """Have a window's network be garbled, if it has one."""
    if isinstance(decoder, SoftWindow):
        decoder.network = GarbledNetwork(decoder.network)


class FailingAccelerator(Accelerator):
    """The service's own, with networks that can be made to fail."""

    def _start_executor(self, memory: Bytes, batch: int) -> Executor:
        for kind in self._kinds.values():
            if isinstance(kind.decoder, SoftWindow):
                kind.decoder.network = FailingNetwork(kind.decoder.network)
        return super()._start_executor(memory, batch)


if __name__ == "__main__":
    main(lambda child: FailingAccelerator(child).run())
