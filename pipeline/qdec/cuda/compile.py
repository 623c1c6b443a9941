"""Compiles the kernels with nvcc for every architecture that is served, and counts registers.

Needs nvcc and no GPU; of Python only the standard library, so that it runs before anything is
installed: ``python3 pipeline/qdec/cuda/compile.py [FOLDER]``. It leaves ``NAME.fatbin`` files in
the folder, and fails on any warning and on any kernel whose registers do not suffice (spills).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).parent / "kernels"
# Each also serves later devices of its generation (80: 86 and 89; 100: 103; 120: 121).
ARCHITECTURES = (80, 90, 100, 120)  # A100, H100 and H200, B200, RTX PRO 6000 and RTX 50
_STRICT = (
    *("-std=c++17", "-O3", "-Werror", "all-warnings"),
    *("-Xptxas", "-v,-Werror,-warn-spills,-warn-lmem-usage"),
    *("-Xcompiler", "-Wall,-Wextra,-Werror"),
)
_ENTRY = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for 'sm_(?P<arch>\d+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers(?:.*?(?P<shared>\d+) bytes smem)?",
    re.DOTALL,
)


class Usage(NamedTuple):
    """What a kernel takes on an architecture: registers per thread, bytes per thread or block."""

    kernel: str
    arch: int
    registers: int
    shared: int
    stack: int
    spilled: int


def find_nvcc() -> str | None:
    """Path of nvcc: on the PATH, in CUDA_HOME, or where Linux packages put it; None if nowhere."""
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    return shutil.which("nvcc") or shutil.which("nvcc", path=home / "bin")


def usage_of(log: str) -> list[Usage]:
    """What ptxas said of each kernel in ``-v``."""
    found = []
    for one in re.split(r"(?=ptxas info\s+: Compiling entry)", log):
        if match := _ENTRY.search(one):
            spilled = int(match["stores"]) + int(match["loads"])
            numbers = int(match["registers"]), int(match["shared"] or 0), int(match["stack"])
            found.append(Usage(match["kernel"], int(match["arch"]), *numbers, spilled))
    return found


def compile_kernels(nvcc: str, folder: Path) -> list[Usage]:
    """Compile every ``.cu`` file to a ``.fatbin`` in a folder.

    Raises:
        SystemExit: nvcc refused one, or one spills; with nvcc's words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ARCHITECTURES]
    usage: list[Usage] = []
    for source in sorted(KERNELS.glob("*.cu")):
        out = folder / source.with_suffix(".fatbin").name
        command = [nvcc, "-fatbin", *targets, *_STRICT, "-o", str(out), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{source.name} does not compile:\n{done.stdout}{done.stderr}")
        usage += usage_of(done.stdout + done.stderr)
    spilling = [f"{one.kernel} on sm_{one.arch}" for one in usage if one.spilled or one.stack]
    if spilling:
        raise SystemExit(f"registers do not suffice: {', '.join(spilling)}")
    return usage


def table(usage: list[Usage]) -> str:
    """Registers per thread by kernel and architecture; bytes of static shared memory per block."""
    lines = [f"{'registers per thread':22}" + "".join(f"sm_{a:<6}" for a in ARCHITECTURES) + "smem"]
    for kernel in dict.fromkeys(one.kernel for one in usage):
        of = {one.arch: one for one in usage if one.kernel == kernel}
        numbers = "".join(f"{of[arch].registers:<9}" for arch in ARCHITECTURES)
        lines.append(f"{kernel:22}{numbers}{max(one.shared for one in of.values())}")
    return "\n".join(lines)


if __name__ == "__main__":
    compiler = find_nvcc()
    if compiler is None:
        raise SystemExit(
            "no nvcc: install the CUDA toolkit (13.0 is known to do), or set CUDA_HOME"
        )
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/kernels")
    print(table(compile_kernels(compiler, to)))
    print(f"compiled for {', '.join(f'sm_{arch}' for arch in ARCHITECTURES)} to {to}")
