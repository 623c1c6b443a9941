"""What a GPU has used of energy, from NVML, which comes with the driver."""

from __future__ import annotations

import ctypes

from qdec.errors import EngineError


class Meter:
    """A GPU's own count of mJ since the driver was loaded (Volta and newer have one)."""

    def __init__(self, bus: str) -> None:
        """Open NVML for the GPU at a PCI address.

        Raises:
            EngineError: there is no NVML, or no such count.
        """
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            raise EngineError("no NVML (libnvidia-ml.so.1), so no energy") from None
        self._gpu = ctypes.c_void_p()
        self._check(self._nvml.nvmlInit_v2(), "NVML does not start")
        found = self._nvml.nvmlDeviceGetHandleByPciBusId_v2(bus.encode(), ctypes.byref(self._gpu))
        self._check(found, f"NVML does not know the GPU at {bus}")
        self.joules()

    def joules(self) -> float:
        """Used so far.

        Raises:
            EngineError: it does not say.
        """
        count = ctypes.c_ulonglong()
        said = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu, ctypes.byref(count))
        self._check(said, "NVML does not tell this GPU's energy")
        return count.value / 1e3

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status:
            raise EngineError(f"{what} (NVML error {status})")
