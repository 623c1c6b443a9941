"""`make kernels`: every kernel compiles for every architecture without a warning or a spill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qdec.cuda import compile as compilation
from qdec.cuda.launch import KERNELS


def test_every_kernel_compiles_for_every_architecture(tmp_path: Path) -> None:
    if compilation.find_nvcc() is None:
        pytest.skip("no nvcc (the CUDA toolkit has it; CUDA_HOME says where)")
    # As `make kernels` does it: a bare interpreter, which sees no package of ours.
    done = subprocess.run(
        [sys.executable, "-I", "-S", compilation.__file__, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = {line.split()[0] for line in done.stdout.splitlines() if "_" in line.split()[0]}
    assert names == {kernel for some in KERNELS.values() for kernel in some}
    assert {path.stem for path in tmp_path.glob("*.fatbin")} == set(KERNELS)


def test_a_kernel_that_spills_or_warns_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = compilation.find_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc (the CUDA toolkit has it; CUDA_HOME says where)")
    monkeypatch.setattr(compilation, "KERNELS", tmp_path)
    monkeypatch.setattr(compilation, "ARCHITECTURES", (90,))
    source = tmp_path / "wrong.cu"
    source.write_text("__global__ void k(int *out) { int unused; *out = 1; }\n")
    with pytest.raises(SystemExit, match="unused"):
        compilation.compile_kernels(nvcc, tmp_path / "out")
    # An array that is indexed by what only the device knows has to lie in memory.
    source.write_text(
        "__global__ void k(int *out, const int *in) {\n"
        "    int a[64];\n"
        "    for (int i = 0; i < 64; ++i) a[in[i] & 63] = in[i + 64];\n"
        "    for (int i = 0; i < 64; ++i) out[i] = a[in[i + 128] & 63];\n"
        "}\n"
    )
    with pytest.raises(SystemExit, match=r"wrong\.cu does not compile|do not suffice"):
        compilation.compile_kernels(nvcc, tmp_path / "out")


def test_what_ptxas_says_is_understood() -> None:
    log = """
ptxas info    : Compiling entry function 'unpack_8' for 'sm_80'
ptxas info    : Function properties for unpack_8
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 31 registers, used 1 barriers, 8 bytes cumulative stack size, 424 bytes cmem[0]
ptxas info    : Compiling entry function 'edges_f32_f32' for 'sm_120'
ptxas info    : Function properties for edges_f32_f32
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 1025 bytes smem
"""
    first, second = compilation.usage_of(log)
    assert first == ("unpack_8", 80, 31, 0, 8, 16)
    assert second == ("edges_f32_f32", 120, 48, 1025, 0, 0)
