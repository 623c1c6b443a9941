"""Tables and references of the kernels say what the CPU path computes; nonsense is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.kernel_cases import (
    folded_grid,
    ising_grid,
    logits_like,
    random_unpack_table,
    syndromes,
)
from helpers.patches import ALL
from qdec.bits import unpack
from qdec.cuda import reference
from qdec.cuda.formats import Format, encoded
from qdec.cuda.offsets import check_offsets, check_record_offsets
from qdec.cuda.plan import MAX_SHARED, THREADS, Device, UnpackPlan
from qdec.cuda.record import HEAD, BitRecord, OddsRecord
from qdec.cuda.tables import EdgeTable, ResidualTable, UnpackTable
from qdec.errors import DataError, GeometryError
from qdec.match.edge_odds import EdgeOdds
from qdec.neural.grid import ROTATED
from qdec.neural.ising.patch import Basis, Orientation
from qdec.neural.ising.shots import decide
from qdec.windows import Window

WINDOWS = [
    Window(0, 13, 13, 13),
    Window(0, 6, 3, None),
    Window(3, 9, 4, None),
    Window(4, 13, 9, 13),
]


@pytest.mark.parametrize(("basis", "orientation"), ALL)
@pytest.mark.parametrize("d", [3, 5])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_ising_windows_are_what_the_grid_makes_of_them(
    basis: Basis, orientation: Orientation, d: int, window: Window
) -> None:
    code, grid = ising_grid(basis, orientation, d, window)
    windows = syndromes(code, window, 20, 11)
    table = UnpackTable.of_ising(grid)
    x = reference.unpack_windows(table, windows, encoded(table.constants, "fp32"))
    np.testing.assert_array_equal(x.view(np.float32), grid.network_input(windows))

    logits = logits_like((20, *grid.shape), np.random.default_rng(d), "f32")
    corrections = decide(logits.astype(np.float32))
    logits[3, 0, 0, 0, 0] = np.nan
    corrections[3] = False
    residual, committed = grid.apply(windows, corrections)
    rows = ResidualTable.of_ising(grid)
    record = BitRecord(rows.window_bytes, rows.answer_bytes)
    head, left, answer = record.read(reference.residual(rows, windows, logits.reshape(20, -1)))
    np.testing.assert_array_equal(left, residual)
    np.testing.assert_array_equal(answer, committed)
    np.testing.assert_array_equal(head["sick"], np.arange(20) == 3)
    np.testing.assert_array_equal(head["count"], unpack(residual, residual.shape[1] * 8).sum(1))


def test_only_logits_that_change_something_count() -> None:
    _, grid = ising_grid("Z", Orientation.ZV, 3, Window(3, 9, 4, None))
    table = ResidualTable.of_ising(grid)
    counted = table.counted.reshape(grid.shape)
    assert not counted[:, : grid.past].any(), "the past is committed"
    assert counted[:2, grid.past :].all(), "every data qubit has checks"
    # As many measurements as stabilisers, in every round that is shown.
    assert (counted[2:, grid.past :].sum(axis=(0, 2, 3)) == 8).all()


@pytest.mark.parametrize("basis", ["X", "Z"])
@pytest.mark.parametrize("d", [3, 4, 5])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_of_the_own_family(basis: Basis, d: int, window: Window) -> None:
    code, grid = folded_grid(basis, d, window)
    windows = syndromes(code, window, 20, 11)
    table = UnpackTable.of_folded(grid, windows.shape[1])
    x = reference.unpack_windows(table, windows, encoded(table.constants, "fp32"))
    nodes = np.flatnonzero(grid.node_at >= 0)
    events = np.zeros((20, 4 * int(np.prod(grid.shape))), dtype=np.float32)
    events[:, grid.node_at[nodes]] = unpack(windows, len(grid.node_at))[:, nodes]
    np.testing.assert_array_equal(x.view(np.float32).reshape(20, -1), events)

    change = np.random.default_rng(d).normal(0, 3, (20, ROTATED.channels, *grid.shape))
    change = change.astype(np.float32)
    for at, nonsense in ((2, np.nan), (5, np.inf), (6, -2e4), (7, 1e4)):
        change[at, 3, 1, 0, 0] = nonsense
    edges = EdgeTable.of_folded(grid, ROTATED.channels)
    found = reference.edges(edges, change.reshape(20, -1), -4.0)
    head, odds = OddsRecord(edges.edges).read(found)
    theirs = EdgeOdds(grid)(change)
    np.testing.assert_array_equal(odds, theirs)
    np.testing.assert_array_equal(head["sick"], np.isnan(theirs).any(axis=1))
    np.testing.assert_array_equal(head["count"], (theirs > -4.0).sum(axis=1))
    sound = head["sick"] == 0
    np.testing.assert_allclose(head["margin"][sound], np.abs(theirs[sound]).min(axis=1))


def test_tiles_need_little_more_than_the_window() -> None:
    """Bytes may come over a bus: few of them twice."""
    _, grid = ising_grid("Z", Orientation.ZV, 9, Window(0, 13, 13, 13))
    plan = UnpackPlan(UnpackTable.of_ising(grid))
    assert plan.bytes_read < 1.6 * plan.window_bytes


@settings(max_examples=100)
@given(st.integers(1, 5000), st.integers(1, 4096), st.integers(1, 200), st.integers(0, MAX_SHARED))
def test_launches_cover_every_window_within_the_limits(
    tiles: int, windows: int, multiprocessors: int, shared: int
) -> None:
    launch = Device(multiprocessors).shape("k", tiles, windows, shared_each=shared)
    each, (across, groups) = launch.windows_each, launch.grid
    assert across == tiles
    assert (groups - 1) * each < windows <= groups * each
    assert 1 <= each <= 8
    assert launch.shared == each * shared <= MAX_SHARED
    assert groups <= 65535
    if each > 1:
        assert tiles * groups >= min(4 * multiprocessors, tiles * windows)
        assert each < 2 * windows


def test_a_batch_that_no_device_takes_is_refused() -> None:
    device = Device()
    for windows in (0, 4097):
        with pytest.raises(GeometryError, match="1 to 4096 windows"):
            device.shape("k", 1, windows)
    with pytest.raises(GeometryError, match="shorter"):
        device.shape("k", 1, 1, shared_each=MAX_SHARED + 4)
    table = random_unpack_table(np.random.default_rng(0), 4, 4)
    with pytest.raises(GeometryError, match="1, 2 or 4 bytes"):
        UnpackPlan(table).launch(1, 8, device)


def test_numbers_in_every_format() -> None:
    numbers = (0.0, 1.0, 0.5, -2.0)
    halves = encoded(numbers, "fp16").astype(np.uint16).view(np.float16)
    np.testing.assert_array_equal(halves, numbers)
    np.testing.assert_array_equal(encoded(numbers, "fp32").view(np.float32), numbers)
    brains = encoded(numbers, "bf16") << np.uint32(16)
    np.testing.assert_array_equal(brains.view(np.float32), numbers)
    small = encoded(numbers, "int8", scale=1 / 60).astype(np.uint8).view(np.int8)
    np.testing.assert_array_equal(small, [0, 60, 30, -120])
    refused: list[tuple[Format, float]] = [
        ("int8", 0.3),
        ("int8", 1 / 256),
        ("fp16", 1),
        ("bf16", 1),
    ]
    for form, scale in refused:
        with pytest.raises(GeometryError, match="has no"):
            encoded((1.0 + 2**-12,), form, scale=scale)


def test_windows_and_records_lie_inside_their_memory() -> None:
    offsets = np.array([-1, 0, 7], dtype=np.int64)
    check_offsets("windows", offsets, 5, 12)
    with pytest.raises(DataError, match="at 7, in a memory of 8"):
        check_offsets("windows", offsets, 5, 8)
    with pytest.raises(DataError, match="inside a word"):
        check_offsets("windows", offsets, 5, 13)
    with pytest.raises(DataError, match="int64"):
        check_offsets("windows", offsets.astype(np.int32), 5, 12)
    with pytest.raises(DataError, match="multiples of 16"):
        check_record_offsets(offsets, 4, 64)
    check_record_offsets(np.array([32, -1, 0]), 32, 64)
    with pytest.raises(DataError, match="overlap"):
        check_record_offsets(np.array([32, 16]), 32, 64)
    huge = np.array([np.iinfo(np.int64).max])
    with pytest.raises(DataError, match="in a memory"):
        check_offsets("windows", huge, 5, 64)


def test_tables_that_reach_beyond_are_refused() -> None:
    rng = np.random.default_rng(0)
    table = random_unpack_table(rng, 4, 4)
    for nonsense in (32, -4):
        entries = table.entries.copy()
        entries[0, 0] = nonsense
        with pytest.raises(GeometryError, match="an input element"):
            UnpackTable(entries, 4, table.constants)
    with pytest.raises(GeometryError, match="multiple of 4"):
        UnpackTable(table.entries[:1, :3], 4, table.constants)
    with pytest.raises(GeometryError, match="int32"):
        UnpackTable(table.entries.astype(np.int64), 4, table.constants)
    with pytest.raises(GeometryError, match="bytes"):
        UnpackTable(table.entries, 0, table.constants)

    good = ResidualTable(
        np.zeros((8, 6), np.int32), np.zeros(8, np.int32), np.zeros(0, np.int32), np.ones(4, bool)
    )
    for wrong, message in (
        ({"sources": np.full((8, 6), 4, np.int32)}, "a bit's source"),
        ({"sources": np.zeros((8, 5), np.int32)}, "6 sources"),
        ({"answers": np.full(8, -2, np.int32)}, "an answer's source"),
        ({"answers": np.zeros(9, np.int32)}, "whole bytes"),
        ({"frame": np.full(1, -1, np.int32)}, "a frame's source"),
    ):
        with pytest.raises(GeometryError, match=message):
            replace(good, **wrong)

    edges = EdgeTable(np.array([0, 1], np.int32), np.zeros(1, np.int32), np.zeros(1, np.float32), 4)
    for wrong, message in (
        ({"ptr": np.array([0, 0], np.int32)}, "needs a place"),
        ({"ptr": np.array([0, 2], np.int32)}, "needs a place"),
        ({"ptr": np.array([0], np.int32)}, "without edges"),
        ({"places": np.full(1, 4, np.int32)}, "an edge's place"),
        ({"priors": np.zeros(2, np.float32)}, "a prior"),
    ):
        with pytest.raises(GeometryError, match=message):
            replace(edges, **wrong)


def test_records_are_aligned_and_blocks_are_whole_warps() -> None:
    assert HEAD.itemsize == 16
    assert THREADS % 32 == 0
    for n in range(1, 40):
        for size in (BitRecord(n, 41 - n).size, OddsRecord(n).size, OddsRecord(n, True).size):
            assert size % 16 == 0
