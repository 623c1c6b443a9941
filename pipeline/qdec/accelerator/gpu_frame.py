"""A batch's way through a GPU, captured once: rounds in, records out, no byte copied by the host.

Unpacking, the network and what follows it (one kernel or two) are one graph for each stream, kind
of window and size of batch. What changes from batch to batch lies in memory that both sides share:
where the windows are, and where their records go. A place that is not used has a negative offset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdec.accelerator.gpu_kinds import GpuKind
from qdec.bits import Bytes
from qdec.cuda.formats import Format, encoded
from qdec.cuda.plan import EdgePlan, Launch
from qdec.cuda.runtime import Program, Runtime, Shared

# Log-odds above which an edge is counted as likely: what matching is asked about.
_LIKELY = 0.0


class StreamKind:
    """A kind of window on a stream: what its frames share, because a stream runs one at a time."""

    def __init__(self, runtime: Runtime, stream: Any, kind: GpuKind) -> None:
        """Take the memory and prepare the network.

        Raises:
            DeviceError: there is not enough of it.
            EngineError: the network cannot be had for this device.
        """
        self.runtime, self.stream, self.kind = runtime, stream, kind
        self.program: Program = kind.program()
        (self.output,) = self.program.outputs
        (self.input,) = (name for name in self.program.dtypes if name != self.output)
        self.program.prepare({self.input: kind.shape}, runtime.handle(stream))
        most = self.program.batches[-1]
        self.x = runtime.zeros((most, *kind.shape), self.program.dtypes[self.input])
        self.y = runtime.zeros((most, kind.outputs), self.program.dtypes[self.output])
        form: Format = "fp16" if self.x.dtype.itemsize == 2 else "fp32"
        self.constants = runtime.upload(encoded(kind.constants, form))
        self.unpack_tables = [runtime.upload(one) for one in kind.unpack.tables]
        self.then_tables = [runtime.upload(one) for one in kind.then.tables]
        self.settle_tables: list[Any] = []
        self.judged: Any = None
        if kind.settle is not None:
            self.settle_tables = [runtime.upload(one) for one in kind.settle.tables]
            # At the offsets of what goes to the host, so that one array of them serves both.
            self.judged = runtime.zeros((most, kind.record.size), np.uint8)

    def scratch(self, launch: Launch) -> tuple[Any, Any]:
        """Zeros for a kernel's sums."""
        sums, counters = launch.scratch
        return self.runtime.zeros((sums,), np.uint32), self.runtime.zeros((counters,), np.uint32)


class Frame:
    """One graph and what it reads and writes; for one batch at a time.

    Attributes:
        size: windows that it has places for.
        stages: what it is captured of, in order; each enqueues its part by itself, for those who
            measure them.
    """

    def __init__(self, on: StreamKind, arena: Shared, size: int) -> None:
        """Run everything once, so that nothing is loaded later, and capture it.

        Raises:
            DeviceError: the device failed.
        """
        runtime = on.runtime
        self.size = size
        self._on = on
        self._at = runtime.shared((size,), np.int64)
        self._to = runtime.shared((size,), np.int64)
        self._records = runtime.shared((size, on.kind.record.size), np.uint8)
        self._each = np.arange(size, dtype=np.int64) * on.kind.record.size
        self._arena = arena
        self._empty(0)
        self.stages = self._prepare()
        self._enqueue()
        runtime.wait(on.stream)
        self._graph = runtime.capture(on.stream, self._enqueue)

    def _prepare(self) -> dict[str, Callable[[], None]]:
        on = self._on
        runtime, kind, device = on.runtime, on.kind, on.runtime.device
        x, y = on.program.dtypes[on.input], on.program.dtypes[on.output]
        unpack = kind.unpack.launch(self.size, x.itemsize, device)
        arena = self._arena.reach
        given = kind.unpack.arguments(
            unpack, on.unpack_tables, on.constants, arena, self._at.reach, on.x
        )
        then = kind.then.launch(self.size, "f16" if y.itemsize == 2 else "f32", device)
        records = self._records.reach if kind.settle is None else on.judged
        tables, results = on.then_tables, (records, self._to.reach, on.scratch(then))
        if isinstance(kind.then, EdgePlan):
            arguments = kind.then.arguments(then, tables, on.y, _LIKELY, *results)
        else:
            arguments = kind.then.arguments(then, tables, arena, self._at.reach, on.y, *results)
        bucket = on.program.batches.index(self.size)
        addresses = {on.input: runtime.address(on.x), on.output: runtime.address(on.y)}
        handle = runtime.handle(on.stream)
        stages = {
            "unpack": lambda: runtime.launch(unpack, given, on.stream),
            "network": lambda: on.program.enqueue(bucket, addresses, handle),
            "then": lambda: runtime.launch(then, arguments, on.stream),
        }
        if kind.settle is not None:
            settle = kind.settle.launch(self.size)
            windows = arena, self._at.reach, on.judged, self._records.reach, self._to.reach
            answers = kind.settle.arguments(settle, on.settle_tables, *windows)
            stages["settle"] = lambda: runtime.launch(settle, answers, on.stream)
        return stages

    def _enqueue(self) -> None:
        for stage in self.stages.values():
            stage()

    def _empty(self, used: int) -> None:
        self._at.host[used:] = -1
        self._to.host[:used] = self._each[:used]
        self._to.host[used:] = -1

    def launch(self, offsets: NDArray[np.int64]) -> None:
        """Send windows through: nothing is waited for.

        Args:
            offsets: ``(n,)`` of packed windows in the arena, n <= `size`.
        """
        self._at.host[: len(offsets)] = offsets
        self._empty(len(offsets))
        self._graph.launch(self._on.stream)

    def records(self, windows: int) -> Bytes:
        """``(windows, size of a record)`` uint8, a view: until the next launch."""
        found: Bytes = self._records.host[:windows]
        return found
