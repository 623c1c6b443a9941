"""The CUDA kernels' own source, run on the CPU: bit for bit what the references say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import emulated
from helpers.emulated import Emulation
from helpers.kernel_cases import (
    FLOATS,
    check_edges,
    check_residual,
    check_unpack,
    folded_grid,
    ising_grid,
    logits_like,
    make_sick,
    random_batch,
    random_edge_table,
    random_residual_table,
    random_unpack_table,
    scattered,
    syndromes,
)
from helpers.patches import ALL
from qdec.cuda.formats import ITEMSIZES, Format
from qdec.cuda.plan import Device, Real
from qdec.cuda.tables import EdgeTable, ResidualTable, UnpackTable
from qdec.neural.grid import ROTATED
from qdec.neural.ising.patch import Basis, Orientation
from qdec.windows import Window

pytestmark = pytest.mark.skipif(
    emulated.compiler() is None, reason="no C++ compiler (Debian: apt-get install g++)"
)
TINY = Device(1)  # so that blocks take several windows even of small batches
BIG = Device(1000)
WINDOWS = [Window(0, 13, 13, 13), Window(0, 6, 3, None), Window(3, 9, 4, None)]
SIZES = {
    "seed": st.integers(0, 2**32),
    "quads": st.integers(1, 700),
    "window_bytes": st.integers(1, 90),
    "count": st.integers(1, 11),
    "device": st.sampled_from([TINY, Device(3), BIG]),
}


@pytest.fixture(scope="module")
def run() -> Emulation:
    return emulated.emulation()


@settings(max_examples=25)
@given(**SIZES, form=st.sampled_from(list(ITEMSIZES)))
def test_unpack(
    run: Emulation,
    seed: int,
    quads: int,
    window_bytes: int,
    count: int,
    device: Device,
    form: Format,
) -> None:
    rng = np.random.default_rng(seed)
    table = random_unpack_table(rng, quads, window_bytes)
    check_unpack(run, table, random_batch(count, window_bytes, rng), form, device)


@settings(max_examples=25)
@given(
    **SIZES,
    answer_bytes=st.integers(1, 40),
    real=st.sampled_from(list(FLOATS)),
    sick=st.booleans(),
)
def test_residual(
    run: Emulation,
    seed: int,
    quads: int,
    window_bytes: int,
    count: int,
    device: Device,
    answer_bytes: int,
    real: Real,
    sick: bool,
) -> None:
    rng = np.random.default_rng(seed)
    table = random_residual_table(rng, quads, window_bytes, answer_bytes)
    logits = logits_like((count, table.elements), rng, real)
    if sick:
        make_sick(logits, rng)
    check_residual(run, table, random_batch(count, window_bytes, rng), logits, real, device)


@settings(max_examples=25)
@given(
    seed=SIZES["seed"],
    quads=SIZES["quads"],
    edges=st.integers(1, 900),
    count=SIZES["count"],
    device=SIZES["device"],
    real=st.sampled_from(list(FLOATS)),
    half=st.booleans(),
    sick=st.booleans(),
)
def test_edges(
    run: Emulation,
    seed: int,
    quads: int,
    edges: int,
    count: int,
    device: Device,
    real: Real,
    half: bool,
    sick: bool,
) -> None:
    rng = np.random.default_rng(seed)
    table = random_edge_table(rng, quads, edges)
    change = logits_like((count, table.elements), rng, real)
    if sick:
        make_sick(change, rng)
        change[-1, 0] = 1e4
    check_edges(run, table, change, real, half, device)


@pytest.mark.parametrize(("basis", "orientation"), ALL)
@pytest.mark.parametrize("d", [3, 5])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_ising_windows(
    run: Emulation, basis: Basis, orientation: Orientation, d: int, window: Window
) -> None:
    rng = np.random.default_rng(d)
    code, grid = ising_grid(basis, orientation, d, window)
    batch = scattered(syndromes(code, window, 5, 3), rng, empty=0.2)
    check_unpack(run, UnpackTable.of_ising(grid), batch, "fp16", TINY)
    table = ResidualTable.of_ising(grid)
    logits = logits_like((5, table.elements), rng, "f16")
    logits[1, 7] = np.inf
    check_residual(run, table, batch, logits, "f16", TINY)


@pytest.mark.parametrize("basis", ["X", "Z"])
@pytest.mark.parametrize("d", [3, 5])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_of_the_own_family(run: Emulation, basis: Basis, d: int, window: Window) -> None:
    rng = np.random.default_rng(d)
    code, grid = folded_grid(basis, d, window)
    windows = syndromes(code, window, 5, 3)
    table = UnpackTable.of_folded(grid, windows.shape[1])
    check_unpack(run, table, scattered(windows, rng), "fp32", TINY)
    edges = EdgeTable.of_folded(grid, ROTATED.channels)
    change = rng.normal(0, 3, (5, edges.elements)).astype(np.float32)
    change[4, -1] = np.nan
    check_edges(run, edges, change, "f32", False, TINY)


def test_a_large_window_takes_many_tiles_of_many_bytes(run: Emulation) -> None:
    rng = np.random.default_rng(5)
    window = Window(0, 13, 13, 13)
    code, grid = ising_grid("Z", Orientation.ZV, 9, window)
    batch = scattered(syndromes(code, window, 9, 3), rng)
    table = ResidualTable.of_ising(grid)
    check_unpack(run, UnpackTable.of_ising(grid), batch, "fp32", TINY)
    check_residual(run, table, batch, logits_like((9, table.elements), rng, "f32"), "f32", TINY)


def test_sums_are_the_same_every_time_and_in_every_company(run: Emulation) -> None:
    rng = np.random.default_rng(6)
    table = random_residual_table(rng, 600, 1100, 3)  # more tiles than a warp has lanes
    batch = random_batch(8, 1100, rng)
    logits = logits_like((8, table.elements), rng, "f32")
    together = check_residual(run, table, batch, logits, "f32", TINY)
    alone = check_residual(run, table, batch, logits, "f32", BIG)
    np.testing.assert_array_equal(together, alone)


def test_the_emulation_rounds_halves_as_numpy_does(run: Emulation) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    floats = np.zeros(len(halves), dtype=np.float32)
    back = np.zeros_like(halves)
    library = run.library
    library.halves_to_floats(_at(halves), _at(floats), len(halves))
    np.testing.assert_array_equal(floats, halves.astype(np.float32))
    rng = np.random.default_rng(7)
    any_floats = rng.integers(0, 2**32, 1 << 18, dtype=np.uint32).view(np.float32)
    between = (floats[1:31744] + floats[:31743]) / 2  # ties, which go to even
    for some in (floats, any_floats[np.isfinite(any_floats)], between, -between):
        back = np.zeros(len(some), dtype=np.float16)
        library.floats_to_halves(_at(some), _at(back), len(some))
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(back, some.astype(np.float16))


def _at(array: np.ndarray) -> object:
    return np.ctypeslib.as_ctypes(array.view(f"u{array.itemsize}"))


def test_the_emulation_finds_threads_that_miss_each_other(run: Emulation) -> None:
    out = np.zeros(64, dtype=np.uint32)
    assert run.run("lanes_vote", (1, 1), 64, 0, [out]) == 0
    np.testing.assert_array_equal(out, 0xAAAAAAAA ^ np.arange(64, dtype=np.uint32) ^ 1)
    assert run.run("half_of_a_warp_votes", (1, 1), 32, 0, [out]) == 1, "stuck"


def test_no_kernel_reaches_beyond_its_arrays() -> None:
    """The emulation with addresses and undefined behaviour checked, in a process of its own."""
    cxx = emulated.compiler()
    assert cxx is not None
    asan = subprocess.run(
        [cxx, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(asan):
        pytest.skip("no libasan (Debian: apt-get install libasan8)")
    environment = {
        **os.environ,
        "LD_PRELOAD": asan,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        emulated.SANITISE: "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "helpers.sanitised"],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip().endswith("clean")
