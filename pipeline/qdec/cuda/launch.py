"""Launches kernels through CuPy, on a stream of the caller's. Has not run on a GPU yet.

`qdec.cuda` says who owns what. CuPy (``pip install 'qdec[gpu]'``) is imported when it is needed,
not before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qdec.cuda.compile import DIGEST, sources_digest
from qdec.cuda.component_plan import MAX_ASKED_SHARED
from qdec.cuda.plan import THREADS, Arguments, Device, Launch
from qdec.errors import EngineError
from qdec.neural.device_faults import device_error
from qdec.neural.tensorrt.cache import users_cache

# By file.
KERNELS = {
    "unpack": ("unpack_8", "unpack_16", "unpack_32"),
    "residual": ("residual_f16", "residual_f32"),
    "components": ("components_f32",),
    "edges": ("edges_f16_f16", "edges_f16_f32", "edges_f32_f16", "edges_f32_f32"),
}


def kernels_folder() -> Path:
    """Where the compiled kernels lie: in the checkout that this runs from, else the user's cache.

    ``python -m qdec.cuda.compile FOLDER`` puts them anywhere.
    """
    checkout = Path(__file__).parents[3]
    if (checkout / "Makefile").is_file():
        return checkout / "build" / "kernels"
    return users_cache() / "kernels"


def check_folder(folder: Path) -> None:
    """See that a folder has the kernels of this version, and that nobody else could write them.

    Raises:
        EngineError: it has not, or somebody could; the message says what to do.
    """
    mend = f"make kernels, or python -m qdec.cuda.compile {folder}"
    digest = folder / DIGEST
    files = [digest, *(folder / f"{name}.fatbin" for name in KERNELS)]
    for path in files:
        if not path.is_file():
            raise EngineError(f"{path} is not there: {mend}")
    for path in (folder, *files):
        found = path.stat()
        if found.st_uid not in (0, os.getuid()) or found.st_mode & 0o022:
            raise EngineError(
                f"others can write to {path}, and kernels are code: chown and chmod go-w it, or "
                "compile them elsewhere"
            )
    if digest.read_text().strip() != sources_digest():
        raise EngineError(f"the kernels in {folder} are of another version: {mend}")


class Kernels:
    """The compiled kernels, loaded into the current device's primary context."""

    def __init__(self, folder: Path) -> None:
        """Load what ``make kernels`` left in a folder (``build/kernels``).

        Raises:
            EngineError: CuPy, a driver, a device or a file is missing, or the files are for other
                devices.
        """
        try:
            import cupy
        except ImportError as error:
            raise EngineError(f"CuPy is not there ({error}): pip install 'qdec[gpu]'") from None
        self._cupy = cupy
        self.functions: dict[str, Any] = {}
        try:
            properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
            self.device = Device(int(properties["multiProcessorCount"]))
            check_folder(folder)
            for name, kernels in KERNELS.items():
                module = cupy.RawModule(path=str(folder / f"{name}.fatbin"))
                for kernel in kernels:
                    self.functions[kernel] = module.get_function(kernel)
            self.functions["components_f32"].max_dynamic_shared_size_bytes = MAX_ASKED_SHARED
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise EngineError(f"no CUDA device: {error}") from None
        except cupy.cuda.driver.CUDADriverError as error:
            raise EngineError(f"the kernels do not load: {error}") from None

    def __call__(self, launch: Launch, arguments: Arguments, stream: Any) -> None:
        """Enqueue a launch; nothing is waited for, and it can be captured into a graph.

        Args:
            launch: from a plan.
            arguments: from the same plan, with arrays that the device can reach (CuPy's, or
                addresses as integers).
            stream: a ``cupy.cuda.Stream``.

        Raises:
            DeviceError: CUDA refuses, or an earlier launch failed.
        """
        try:
            with stream:
                self.functions[launch.kernel](
                    launch.grid, (THREADS,), tuple(arguments), shared_mem=launch.shared
                )
        except self._cupy.cuda.driver.CUDADriverError as error:
            raise device_error(error) from None
