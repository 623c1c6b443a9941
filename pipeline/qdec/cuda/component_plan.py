"""How `components` is launched: one block for each window, with all that it works in shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdec.bits import pack
from qdec.cuda.component_table import ComponentTable
from qdec.cuda.plan import MAX_WINDOWS, Arguments, Launch
from qdec.cuda.record import ComponentRecord, words_for
from qdec.errors import GeometryError

# What blocks may be given by every device of the architectures that are compiled for, if asked:
# 99 KiB (8.6, 8.9, 12.x), and more on others.
MAX_ASKED_SHARED = 99 << 10
# As in kernels/window_graph.cuh: residual events of a window; nodes of a ball; events of a
# component; what a block has beside its window's own words.
EVENTS, BALL, MEMBERS, WORK_BYTES = 64, 32, 10, 56432
# Likewise: rounds of growing balls; the first radius and the step, in nats.
ROUNDS, RADIUS, STEP = 14, 1.0, 2.0


class ComponentPlan:
    """Of `ComponentTable`: kernel ``components_f32``, behind ``edges_*_f32``."""

    def __init__(self, table: ComponentTable) -> None:
        """See that a window's words fit into a block's memory.

        Raises:
            GeometryError: they do not.
        """
        self.record = ComponentRecord(table.edges, table.answer_bytes)
        self._window_bytes = table.window_bytes
        self._words = words_for(table.answer_bytes)
        self._whole, self._apart = table.whole, table.apart
        words = words_for(table.window_bytes) + self._words + words_for(-(-table.edges // 8))
        self.shared = WORK_BYTES + 4 * (words + table.nodes)
        if self.shared > MAX_ASKED_SHARED:
            raise GeometryError(
                f"components: a window needs {self.shared} bytes at once, and blocks have "
                f"{MAX_ASKED_SHARED}: make the windows shorter"
            )
        measured = np.zeros(32 * words_for(table.window_bytes), dtype=np.bool_)
        measured[: table.nodes] = table.measured
        ids = table.ids if len(table.ids) else np.zeros(1, dtype=np.int32)  # never read
        ptr, links = table.links
        self.tables: tuple[NDArray[np.generic], ...] = (
            *(np.ascontiguousarray(table.ends), table.id_ptr, ids),
            *(ptr, links, table.sides, pack(measured).view(np.uint32)),
        )

    def launch(self, windows: int) -> Launch:
        """For a batch.

        Raises:
            GeometryError: there are no windows, or too many.
        """
        if not 1 <= windows <= MAX_WINDOWS:
            raise GeometryError(f"components: a batch has 1 to {MAX_WINDOWS} windows")
        return Launch("components_f32", (windows, 1), windows, 1, self.shared)

    def arguments(
        self,
        launch: Launch,
        tables: Sequence[Any],
        arena: Any,
        offsets: Any,
        judged: Any,
        results: Any,
        result_offsets: Any,
    ) -> Arguments:
        """Of the kernel.

        Args:
            launch: from `launch`.
            tables: `tables`, where the kernel can read them.
            arena, offsets: as `qdec.cuda.plan.UnpackPlan.arguments`.
            judged: uint8 records of `edges`, in float32, where `result_offsets` say.
            results: uint8; records begin at multiples of `ALIGNMENT`, `record.size` apart or more.
            result_offsets: ``(B,)`` int64 of records, in either; negative for empty places.
        """
        *lists, measured = tables
        numbers = np.int32(self.record.edges), np.int32(self._words)
        terms = np.int32(self._whole), np.float32(self._apart)
        before = [arena, offsets, np.int32(self._window_bytes), judged]
        return [*before, *lists, measured, *numbers, *terms, results, result_offsets]
