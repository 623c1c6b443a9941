"""The CUDA kernels, compiled for the CPU from the same source, and launched on NumPy arrays."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from qdec.cuda.compile import KERNELS
from qdec.cuda.plan import THREADS, Arguments, Launch

HERE = Path(__file__).parent / "cuda"
# Undefined behaviour and addresses are checked when this is set; see `sanitised.py`.
SANITISE = "QDEC_SANITISE"
_WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
_SANITISERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiler() -> str | None:
    """A C++ compiler; None if there is none."""
    return shutil.which("g++") or shutil.which("c++")


class Emulation:
    """All kernels on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def __call__(self, launch: Launch, arguments: Arguments) -> None:
        """Run a launch to its end; arrays are NumPy's."""
        status = self.run(launch.kernel, launch.grid, THREADS, launch.shared, arguments)
        assert status == 0, f"{launch.kernel}: threads miss each other ({status})"

    def run(
        self, kernel: str, grid: tuple[int, int], threads: int, shared: int, arguments: Arguments
    ) -> int:
        """What the emulation says: 0 done, 1 stuck, 2 not allowed."""
        values = []
        for one in arguments:
            if isinstance(one, np.ndarray):
                assert one.flags.c_contiguous
                values.append(ctypes.c_void_p(one.ctypes.data))
            else:
                values.append(np.ctypeslib.as_ctypes_type(one.dtype)(one.item()))
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        function = getattr(self.library, f"emulate_{kernel}")
        return int(function(*grid, threads, ctypes.c_size_t(shared), pointers))


@cache
def emulation() -> Emulation:
    """Compile and load them."""
    cxx = compiler()
    assert cxx is not None
    with TemporaryDirectory() as folder:
        out = Path(folder) / "kernels.so"
        extra = _SANITISERS if SANITISE in os.environ else []
        includes = [f"-I{HERE}", f"-I{KERNELS}"]
        options = ["-std=c++20", "-O1", "-fPIC", "-shared", *_WARNINGS, *extra, *includes]
        subprocess.run([cxx, *options, str(HERE / "kernels.cpp"), "-o", str(out)], check=True)
        return Emulation(ctypes.CDLL(str(out)))
