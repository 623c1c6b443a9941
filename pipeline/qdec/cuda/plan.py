"""How kernels are launched for one kind of window: grids and tables as data, checked here.

A launch is a grid of (tiles, groups of windows) blocks of `THREADS` threads. More windows per block
read the tables less often; fewer keep more of the device busy. What `tables` holds is to be put on
the device once, in that order, and handed to `arguments` with the batch's own arrays. These
come out in the kernel's order, arrays as they were given, numbers in NumPy's types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qdec.cuda.record import BitRecord, OddsRecord
from qdec.cuda.tables import SOURCES, EdgeTable, Int32s, ResidualTable, UnpackTable
from qdec.errors import GeometryError

THREADS = 256
MOST_WINDOWS_EACH = 8
MAX_WINDOWS = 4096
MAX_SHARED = 48 << 10  # bytes that a block has on every device without asking
_WARP = 32
_QUAD = 4
_TILE_BYTES = THREADS // 8
Real = Literal["f16", "f32"]
Arguments = list[Any]


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch.

    Attributes:
        kernel: its name.
        grid: blocks (tiles, groups).
        windows: B.
        windows_each: of a block.
        shared: bytes of dynamic shared memory.
    """

    kernel: str
    grid: tuple[int, int]
    windows: int
    windows_each: int
    shared: int = 0

    @property
    def scratch(self) -> tuple[int, int]:
        """32-bit words of partial sums and of counters, zeros before the first launch."""
        tiles, groups = self.grid
        return 4 * self.windows * tiles, groups


@dataclass(frozen=True, slots=True)
class Device:
    """What launches are shaped by.

    Attributes:
        multiprocessors: how many (132: H100 SXM, H200).
    """

    multiprocessors: int = 132

    def shape(self, kernel: str, tiles: int, windows: int, *, shared_each: int = 0) -> Launch:
        """As many windows per block, up to 8, as leave four blocks to every multiprocessor.

        Raises:
            GeometryError: there are no windows, too many, or a window's tile does not fit into
                shared memory.
        """
        if not 1 <= windows <= MAX_WINDOWS:
            raise GeometryError(f"{kernel}: a batch has 1 to {MAX_WINDOWS} windows, not {windows}")
        if shared_each > MAX_SHARED:
            raise GeometryError(
                f"{kernel}: a tile needs {shared_each} bytes of a window at once, and blocks have "
                f"{MAX_SHARED}: make the windows shorter"
            )
        each = MOST_WINDOWS_EACH
        while each > 1 and (
            each // 2 >= windows
            or each * shared_each > MAX_SHARED
            or tiles * -(-windows // each) < min(4 * self.multiprocessors, tiles * windows)
        ):
            each //= 2
        return Launch(kernel, (tiles, -(-windows // each)), windows, each, each * shared_each)


class UnpackPlan:
    """Of `UnpackTable`: kernels ``unpack_8``, ``unpack_16``, ``unpack_32``."""

    def __init__(self, table: UnpackTable) -> None:
        """Put elements that need the same bytes into the same tiles."""
        quads = table.entries.reshape(-1, _QUAD)
        # A warp's worth of neighbours stays together: it writes whole sectors.
        first = np.where(quads >= 0, quads, 8 * table.window_bytes).min(axis=1)
        runs = np.arange(len(quads)) // _WARP
        first_of_run = np.minimum.reduceat(first, np.arange(0, len(quads), _WARP))
        order = np.argsort(first_of_run[runs], kind="stable").astype(np.int32)
        entries = np.ascontiguousarray(quads[order])
        self._quads = len(quads)
        self._needs = _needs(entries)
        self.elements = table.entries.size
        self.window_bytes = table.window_bytes
        self.tables: tuple[Int32s, ...] = (entries, order, self._needs)

    @property
    def bytes_read(self) -> int:
        """Bytes of a packed window that its tiles read together: the window's, and what is read
        more than once.
        """
        return int(self._needs[:, 1].sum())

    def launch(self, windows: int, itemsize: int, device: Device) -> Launch:
        """For a network whose elements have 1, 2 or 4 bytes.

        Raises:
            GeometryError: as `Device.shape`, or they have not.
        """
        if itemsize not in (1, 2, 4):
            raise GeometryError(f"a network's elements have 1, 2 or 4 bytes, not {itemsize}")
        words = (int(self._needs[:, 1].max()) + 6) // 4
        kernel = f"unpack_{8 * itemsize}"
        return device.shape(kernel, len(self._needs), windows, shared_each=4 * words)

    def arguments(
        self,
        launch: Launch,
        tables: Sequence[Any],
        values: Any,
        arena: Any,
        offsets: Any,
        out: Any,
    ) -> Arguments:
        """Of the kernel.

        Args:
            launch: from `launch`.
            tables: `tables`, where the kernel can read them.
            values: the table's constants, `encoded` for the network, likewise.
            arena: uint8, begins and ends on a multiple of 4 bytes.
            offsets: ``(B,)`` int64 of windows in the arena, see `qdec.cuda.offsets`.
            out: ``(B, C, T, H, W)``, on a multiple of 16 bytes.
        """
        entries, order, needs = tables
        counts = np.int32(launch.windows), np.int32(launch.windows_each)
        quads = np.int32(self._quads)
        return [arena, offsets, *counts, entries, order, needs, quads, values, out]


class ResidualPlan:
    """Of `ResidualTable`: kernels ``residual_f16``, ``residual_f32``."""

    def __init__(self, table: ResidualTable) -> None:
        """Lay bits of the residual, then of the answer, out in words."""
        self.record = BitRecord(table.window_bytes, table.answer_bytes)
        self.elements = table.elements
        bits = _WARP * self.record.words
        answer = _WARP * self.record.residual_words
        sources = np.full((SOURCES, bits), -1, dtype=np.int32)
        sources[:, : len(table.sources)] = table.sources.T
        sources[0, answer : answer + len(table.answers)] = table.answers
        counted = table.counted.reshape(-1, _QUAD) @ np.array([1, 2, 4, 8], dtype=np.uint8)
        self._frames = len(table.frame)
        frame = table.frame if self._frames else np.zeros(1, dtype=np.int32)  # never read
        self.tables: tuple[NDArray[np.generic], ...] = (sources, counted.astype(np.uint8), frame)

    def launch(self, windows: int, real: Real, device: Device) -> Launch:
        """For logits in float16 or float32.

        Raises:
            GeometryError: as `Device.shape`.
        """
        tiles = -(-4 * self.record.words // _TILE_BYTES)
        return device.shape(f"residual_{real}", tiles, windows)

    def arguments(
        self,
        launch: Launch,
        tables: Sequence[Any],
        arena: Any,
        offsets: Any,
        logits: Any,
        results: Any,
        result_offsets: Any,
        scratch: tuple[Any, Any],
    ) -> Arguments:
        """Of the kernel.

        Args:
            launch: from `launch`.
            tables: `tables`, where the kernel can read them.
            arena, offsets: as `UnpackPlan.arguments`.
            logits: ``(B, elements)``, on a multiple of 16 bytes.
            results: uint8; records begin at multiples of `ALIGNMENT`.
            result_offsets: ``(B,)`` int64 of records in it.
            scratch: two uint32 arrays of `Launch.scratch` words.
        """
        sources, counted, frame = tables
        counts = np.int32(launch.windows), np.int32(launch.windows_each)
        words = np.int32(self.record.residual_words), np.int32(self.record.words)
        before = [arena, offsets, *counts, np.int32(self.record.window_bytes)]
        middle = [logits, np.int32(self.elements), sources, *words, counted]
        after = [frame, np.int32(self._frames), results, result_offsets]
        return [*before, *middle, *after, *scratch]


class EdgePlan:
    """Of `EdgeTable`: kernels ``edges_f16_f16`` to ``edges_f32_f32``."""

    def __init__(self, table: EdgeTable, *, half: bool = False) -> None:
        """Plan for log-odds in float32 or, at `half` the bytes, in float16."""
        self.record = OddsRecord(table.edges, half)
        self.elements = table.elements
        self.tables: tuple[NDArray[np.generic], ...] = (table.ptr, table.places, table.priors)

    def launch(self, windows: int, real: Real, device: Device) -> Launch:
        """For a network's output in float16 or float32.

        Raises:
            GeometryError: as `Device.shape`.
        """
        odds = "f16" if self.record.half else "f32"
        return device.shape(f"edges_{real}_{odds}", -(-self.record.edges // THREADS), windows)

    def arguments(
        self,
        launch: Launch,
        tables: Sequence[Any],
        change: Any,
        likely: float,
        results: Any,
        result_offsets: Any,
        scratch: tuple[Any, Any],
    ) -> Arguments:
        """Of the kernel.

        Args:
            launch: from `launch`.
            tables: `tables`, where the kernel can read them.
            change: ``(B, elements)``, on a multiple of 16 bytes: what the network adds to the
                priors.
            likely: log-odds above which an edge is counted.
            results, result_offsets, scratch: as `ResidualPlan.arguments`.
        """
        counts = np.int32(launch.windows), np.int32(launch.windows_each)
        numbers = np.int32(self.record.edges), np.float32(likely)
        before = [change, *counts, np.int32(self.elements), *tables, *numbers]
        return [*before, results, result_offsets, *scratch]


def _needs(entries: Int32s) -> Int32s:
    """``(tiles, 2)`` int32: the first byte that a tile needs, and how many."""
    tiles = -(-len(entries) // THREADS)
    needs = np.zeros((tiles, 2), dtype=np.int32)
    for tile in range(tiles):
        some = entries[tile * THREADS : (tile + 1) * THREADS]
        some = some[some >= 0] // 8
        if some.size:
            needs[tile] = some.min(), some.max() - some.min() + 1
    return needs
