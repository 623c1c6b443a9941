"""The launched kernels, held to what their emulation is. Skipped where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.component_cases import check_components, random_case, random_table
from helpers.kernel_cases import (
    FLOATS,
    check_edges,
    check_residual,
    check_unpack,
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
from qdec.cuda.compile import compile_kernels, find_nvcc
from qdec.cuda.formats import ITEMSIZES, Format
from qdec.cuda.launch import Kernels
from qdec.cuda.plan import THREADS, Arguments, Launch, Real
from qdec.cuda.tables import ResidualTable, UnpackTable
from qdec.errors import EngineError
from qdec.neural import driver
from qdec.neural.ising.patch import Orientation
from qdec.windows import Window

try:
    driver.devices()
except EngineError as error:
    pytest.skip(f"needs a GPU: {error}", allow_module_level=True)

SIZES = [(1, 1, 1), (3, 257, 33), (8, 1000, 90), (64, 4393, 2184), (65, 301, 71)]


class OnDevice:
    """Launches kernels on copies of NumPy arrays, and copies back what they wrote."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels

    def __call__(self, launch: Launch, arguments: Arguments) -> None:
        import cupy

        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            there = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        self.kernels(launch, there, stream)
        stream.synchronize()
        for ours, theirs in zip(arguments, there, strict=True):
            if isinstance(ours, np.ndarray):
                ours[...] = cupy.asnumpy(theirs).reshape(ours.shape)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> OnDevice:
    folder = Path("build/kernels")
    nvcc = find_nvcc()
    if nvcc is not None:
        folder = tmp_path_factory.mktemp("kernels")
        compile_kernels(nvcc, folder)
    try:
        return OnDevice(Kernels(folder))
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("count", "quads", "window_bytes"), SIZES)
@pytest.mark.parametrize("form", list(ITEMSIZES))
def test_unpack(run: OnDevice, count: int, quads: int, window_bytes: int, form: Format) -> None:
    rng = np.random.default_rng(1)
    table = random_unpack_table(rng, quads, window_bytes)
    batch = random_batch(count, window_bytes, rng)
    check_unpack(run, table, batch, form, run.kernels.device)


@pytest.mark.parametrize(("count", "quads", "window_bytes"), SIZES)
@pytest.mark.parametrize("real", list(FLOATS))
@pytest.mark.parametrize("sick", [False, True])
def test_residual(
    run: OnDevice, count: int, quads: int, window_bytes: int, real: Real, sick: bool
) -> None:
    rng = np.random.default_rng(2)
    table = random_residual_table(rng, quads, window_bytes, 25)
    logits = logits_like((count, table.elements), rng, real)
    if sick:
        make_sick(logits, rng)
    batch = random_batch(count, window_bytes, rng)
    first = check_residual(run, table, batch, logits, real, run.kernels.device)
    again = check_residual(run, table, batch, logits, real, run.kernels.device)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(("count", "quads"), [(size[0], size[1]) for size in SIZES])
@pytest.mark.parametrize("real", list(FLOATS))
@pytest.mark.parametrize("half", [False, True])
def test_edges(run: OnDevice, count: int, quads: int, real: Real, half: bool) -> None:
    rng = np.random.default_rng(3)
    table = random_edge_table(rng, quads, quads + 7)
    change = logits_like((count, table.elements), rng, real)
    make_sick(change, rng)
    check_edges(run, table, change, real, half, run.kernels.device)


@pytest.mark.parametrize("density", [0.02, 0.1])
@pytest.mark.parametrize("window_bytes", [1, 33, 273])
def test_components(run: OnDevice, window_bytes: int, density: float) -> None:
    rng = np.random.default_rng(window_bytes)
    for apart in (0.0, 8.0):
        table = random_table(rng, window_bytes, 4.0, 9, apart)
        check_components(run, table, *random_case(rng, table, 16, density))


def test_ising_windows(run: OnDevice) -> None:
    rng = np.random.default_rng(4)
    window = Window(0, 13, 13, 13)
    code, grid = ising_grid("Z", Orientation.ZV, 13, window)
    batch = scattered(syndromes(code, window, 64, 3), rng)
    check_unpack(run, UnpackTable.of_ising(grid), batch, "fp16", run.kernels.device)
    table = ResidualTable.of_ising(grid)
    logits = logits_like((64, table.elements), rng, "f16")
    check_residual(run, table, batch, logits, "f16", run.kernels.device)


def test_blocks_are_as_the_kernels_were_compiled_for(run: OnDevice) -> None:
    for function in run.kernels.functions.values():
        assert function.max_threads_per_block == THREADS
        assert function.local_size_bytes == 0, "spills"
