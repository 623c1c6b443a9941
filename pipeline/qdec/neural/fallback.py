"""A network on a GPU, and the processor's for the case that it turns out not to run there."""

from __future__ import annotations

import logging
from collections.abc import Callable

from qdec.errors import DeviceError, DeviceFault, EngineError
from qdec.neural.engine import CompiledNetwork, Floats, may_build

log = logging.getLogger("qdec.neural")


def that_runs(network: CompiledNetwork) -> CompiledNetwork:
    """The network itself, where it may be one that could have moved to the processor."""
    return network.network if isinstance(network, WithFallback) else network


class WithFallback:
    """A network that moves to the processor while the process starts. See `CompiledNetwork`.

    What is found out only when a plan is built or loaded (no memory for its batches, an operator
    that TensorRT does not have) is found out at the start, when windows are warmed up. Once the
    process serves, a failure is a failure: lanes go on without it, and it is seen.

    Attributes:
        network: the one that runs.
    """

    def __init__(
        self, first: Callable[[], CompiledNetwork], other: Callable[[], CompiledNetwork]
    ) -> None:
        """Make the first, or the other where that fails.

        Raises:
            EngineError: the other fails as well.
            DeviceError: the GPU is at fault, and not for want of memory.
        """
        self._other: Callable[[], CompiledNetwork] | None = other
        try:
            self.network = first()
        except (EngineError, DeviceError) as error:
            self._move(error)

    @property
    def channels(self) -> tuple[tuple[int, ...], int]:
        """Channels of each input, and of the output."""
        return self.network.channels

    def __call__(self, *inputs: Floats) -> Floats:
        """See `CompiledNetwork.__call__`."""
        try:
            return self.network(*inputs)
        except (EngineError, DeviceError) as error:
            if not may_build():
                raise
            self._move(error)
        return self.network(*inputs)

    def _move(self, error: EngineError | DeviceError) -> None:
        broken = isinstance(error, DeviceError) and error.kind is not DeviceFault.MEMORY
        if self._other is None or broken:
            raise error
        log.warning("a network runs on the processor, since on the GPU it cannot: %s", error)
        self.network = self._other()
        self._other = None
