"""Kernels held to their references, whatever runs them: the emulation, or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.patches import experiment
from qdec.bits import Bytes
from qdec.codes import Code
from qdec.cuda import reference
from qdec.cuda.formats import ITEMSIZES, Format, encoded
from qdec.cuda.offsets import check_offsets, check_record_offsets
from qdec.cuda.plan import Arguments, Device, EdgePlan, Launch, Real, ResidualPlan, UnpackPlan
from qdec.cuda.record import HEAD, BitRecord
from qdec.cuda.tables import EdgeTable, ResidualTable, UnpackTable
from qdec.neural.grid import ROTATED, Lattice
from qdec.neural.grid import WindowGrid as FoldedGrid
from qdec.neural.ising.patch import Basis, Orientation
from qdec.neural.ising.placement import place
from qdec.neural.ising.window import WindowGrid as IsingGrid
from qdec.windows import Window
from qdec.windows.cut import cut, merge_parallel

# Runs a launch to its end; arrays among the arguments are NumPy's, and hold what it wrote.
Runner = Callable[[Launch, Arguments], None]
Reals = NDArray[np.floating]
FLOATS: dict[Real, type[np.floating]] = {"f16": np.float16, "f32": np.float32}
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}
JUNK = 0xA5


@dataclass(frozen=True)
class Batch:
    """Windows scattered over an arena, some places of the batch empty.

    Attributes:
        windows: ``(B, window_bytes)``; of empty places, anything.
        arena: that they lie in, at any byte.
        offsets: ``(B,)``.
    """

    windows: Bytes
    arena: Bytes
    offsets: NDArray[np.int64]

    @property
    def there(self) -> NDArray[np.bool_]:
        return np.asarray(self.offsets >= 0)


def scattered(windows: Bytes, rng: np.random.Generator, *, empty: float = 0.1) -> Batch:
    count, size = windows.shape
    gaps = rng.integers(0, 7, count)
    starts = np.cumsum(gaps + size) - size
    arena = np.full(-(-int(starts[-1] + size) // 4) * 4, JUNK, dtype=np.uint8)
    order = rng.permutation(count)
    offsets = starts[order].astype(np.int64)
    for at, window in zip(offsets, windows, strict=True):
        arena[at : at + size] = window
    offsets[rng.random(count) < empty] = -1
    check_offsets("windows", offsets, size, len(arena))
    return Batch(windows, arena, offsets)


def random_batch(count: int, window_bytes: int, rng: np.random.Generator) -> Batch:
    return scattered(rng.integers(0, 256, (count, window_bytes), dtype=np.uint8), rng)


def check_unpack(
    run: Runner, table: UnpackTable, batch: Batch, form: Format, device: Device
) -> None:
    plan = UnpackPlan(table)
    itemsize = ITEMSIZES[form]
    launch = plan.launch(len(batch.windows), itemsize, device)
    unsigned = np.dtype(UNSIGNED[itemsize])
    values = encoded(table.constants, form, scale=0.25)
    out = np.full((len(batch.windows), *table.entries.shape), JUNK, dtype=unsigned)
    run(launch, plan.arguments(launch, plan.tables, values, batch.arena, batch.offsets, out))
    windows = np.where(batch.there[:, None], batch.windows, np.uint8(0))
    np.testing.assert_array_equal(out, reference.unpack_windows(table, windows, values))


def check_residual(
    run: Runner, table: ResidualTable, batch: Batch, logits: Reals, real: Real, device: Device
) -> Bytes:
    """Returns the records, without gaps."""
    plan = ResidualPlan(table)
    record = plan.record
    launch = plan.launch(len(batch.windows), real, device)
    results, offsets = _results(len(batch.windows), record.size, batch.there)
    scratch = _scratch(launch)
    arguments = plan.arguments(
        launch, plan.tables, batch.arena, batch.offsets, logits, results, offsets, scratch
    )
    run(launch, arguments)
    assert not scratch[1].any(), "ready for the next launch"
    run(launch, arguments)
    found = _gathered(results, record.size)
    _check_untouched(found, batch.there)
    ours = found[batch.there]
    theirs = reference.residual(table, batch.windows[batch.there], logits[batch.there])
    for a, b in zip(record.read(ours)[1:], record.read(theirs)[1:], strict=True):
        np.testing.assert_array_equal(a, b)
    _check_heads(record.read(ours)[0], record.read(theirs)[0])
    padding = HEAD.itemsize + 4 * record.words
    np.testing.assert_array_equal(ours[:, HEAD.itemsize : padding], _body(theirs, record))
    return found


def check_edges(
    run: Runner, table: EdgeTable, change: Reals, real: Real, half: bool, device: Device
) -> Bytes:
    """Returns the records, without gaps."""
    plan = EdgePlan(table, half=half)
    record = plan.record
    launch = plan.launch(len(change), real, device)
    there = np.arange(len(change)) % 5 != 3
    results, offsets = _results(len(change), record.size, there)
    scratch = _scratch(launch)
    likely = -3.0
    run(launch, plan.arguments(launch, plan.tables, change, likely, results, offsets, scratch))
    assert not scratch[1].any()
    found = _gathered(results, record.size)
    _check_untouched(found, there)
    theirs = reference.edges(table, change[there], likely, half=half)
    ours_heads, ours = record.read(found[there])
    their_heads, odds = record.read(theirs)
    single = np.diff(table.ptr) == 1
    np.testing.assert_array_equal(ours[:, single], odds[:, single])
    rounding = 2e-3 if half else 1e-5
    np.testing.assert_allclose(ours[:, ~single], odds[:, ~single], rtol=rounding, atol=rounding)
    _check_heads(ours_heads, their_heads, counts=bool(single.all()))
    return found


def _check_heads(ours: NDArray[np.void], theirs: NDArray[np.void], *, counts: bool = True) -> None:
    np.testing.assert_array_equal(ours["sick"], theirs["sick"])
    np.testing.assert_allclose(ours["margin"], theirs["margin"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours["doubt"], theirs["doubt"], rtol=1e-4, atol=1e-6)
    apart = ours["count"].astype(int) - theirs["count"].astype(int)
    assert np.abs(apart).max(initial=0) <= (0 if counts else 1), "an edge at the very bound"


def _body(records: Bytes, record: BitRecord) -> Bytes:
    return records[:, HEAD.itemsize : HEAD.itemsize + 4 * record.words]


def _results(count: int, size: int, there: NDArray[np.bool_]) -> tuple[Bytes, NDArray[np.int64]]:
    """Room for records, 16 bytes between them, the last window's first."""
    results = np.full(count * (size + 16), JUNK, dtype=np.uint8)
    offsets = np.arange(count, dtype=np.int64)[::-1] * (size + 16)
    offsets = np.where(there, offsets, -1)
    check_record_offsets(offsets, size, len(results))
    return results, offsets


def _gathered(results: Bytes, size: int) -> Bytes:
    """``(B, size)``; nothing was written between the records."""
    rows = results.reshape(-1, size + 16)[::-1]
    assert (rows[:, size:] == JUNK).all()
    return np.ascontiguousarray(rows[:, :size])


def _check_untouched(records: Bytes, there: NDArray[np.bool_]) -> None:
    assert (records[~there] == JUNK).all(), "empty places have no record"


def _scratch(launch: Launch) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    sums, counters = launch.scratch
    return np.zeros(sums, dtype=np.uint32), np.zeros(counters, dtype=np.uint32)


def logits_like(shape: tuple[int, ...], rng: np.random.Generator, real: Real) -> Reals:
    """Logits on either side of zero, and some on it."""
    logits = rng.normal(-2, 4, shape)
    logits[rng.random(shape) < 0.05] = 0.0
    logits[rng.random(shape) < 0.05] = -0.0
    return logits.astype(FLOATS[real])


def make_sick(values: Reals, rng: np.random.Generator) -> None:
    """Something that is no logit into every third window."""
    flat = values.reshape(len(values), -1)
    for row in flat[::3]:
        row[rng.integers(len(row))] = rng.choice([np.nan, np.inf, -np.inf])


def random_unpack_table(rng: np.random.Generator, quads: int, window_bytes: int) -> UnpackTable:
    constants = (0.0, 1.0, 0.5)
    entries = rng.integers(-len(constants), 8 * window_bytes, (4, quads, 1, 1)).astype(np.int32)
    return UnpackTable(entries, window_bytes, constants)


def random_residual_table(
    rng: np.random.Generator, quads: int, window_bytes: int, answer_bytes: int
) -> ResidualTable:
    elements = 4 * quads

    def some(*shape: int) -> NDArray[np.int32]:
        indices = rng.integers(0, elements, shape)
        return np.where(rng.random(shape) < 0.5, indices, -1).astype(np.int32)

    return ResidualTable(
        some(8 * window_bytes, 6),
        some(8 * answer_bytes),
        np.flatnonzero(rng.random(elements) < 0.3).astype(np.int32),
        rng.random(elements) < 0.7,
    )


def random_edge_table(rng: np.random.Generator, quads: int, edges: int) -> EdgeTable:
    counts = np.where(rng.random(edges) < 0.1, rng.integers(2, 5, edges), 1)
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    places = rng.integers(0, 4 * quads, int(ptr[-1])).astype(np.int32)
    return EdgeTable(ptr, places, rng.normal(-6, 1, len(places)).astype(np.float32), 4 * quads)


def ising_grid(
    basis: Basis, orientation: Orientation, d: int, window: Window
) -> tuple[Code, IsingGrid]:
    code = Code.from_circuit(experiment(basis, orientation, d, 12, 0.01))
    return code, IsingGrid(place(code, basis), code.spacetime, window, past=2)


def folded_grid(basis: Basis, d: int, window: Window) -> tuple[Code, FoldedGrid]:
    code = Code.from_circuit(experiment(basis, Orientation.ZV, d, 12, 0.01))
    problem = cut(code.spacetime, window)
    return code, Lattice(code, ROTATED).grid(window, problem, merge_parallel(problem))


def syndromes(code: Code, window: Window, shots: int, seed: int) -> Bytes:
    """``(shots, window_bytes)`` packed rounds of a window."""
    events, _, _ = code.dem.compile_sampler(seed=seed).sample(shots, bit_packed=True)
    records = code.layout.to_records(events)
    return np.ascontiguousarray(records[:, window.start : window.end].reshape(shots, -1))
