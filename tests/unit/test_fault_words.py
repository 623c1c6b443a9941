"""CUDA's words, and what they mean for the process."""

from __future__ import annotations

import pytest

from qdec.errors import DeviceFault
from qdec.neural.device_faults import device_error


class CUDARuntimeError(RuntimeError):
    """As CuPy has it: its message begins with the runtime's name of the error."""


class OutOfMemoryError(MemoryError):
    """As CuPy and PyTorch have it."""


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OutOfMemoryError("Out of memory allocating 8,589,934,592 bytes"), DeviceFault.MEMORY),
        (RuntimeError("CUDA error: out of memory\nCompile with ..."), DeviceFault.MEMORY),
        (CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), DeviceFault.MEMORY),
        (CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device"), DeviceFault.LOST),
        (
            CUDARuntimeError(
                "cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable"
            ),
            DeviceFault.LOST,
        ),
        (
            RuntimeError("CUDA error: uncorrectable ECC error encountered"),
            DeviceFault.LOST,
        ),
        (
            CUDARuntimeError("cudaErrorLaunchTimeout: the launch timed out and was terminated"),
            DeviceFault.HUNG,
        ),
        (
            CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"),
            DeviceFault.ERROR,
        ),
        (RuntimeError("CUDA error: unspecified launch failure"), DeviceFault.ERROR),
        (RuntimeError(), DeviceFault.ERROR),
    ],
)
def test_words(error: Exception, fault: DeviceFault) -> None:
    found = device_error(error)
    assert found.kind is fault
    assert type(error).__name__ in str(found)
    assert "\n" not in str(found)


def test_what_is_said_is_bounded() -> None:
    assert len(str(device_error(RuntimeError("x" * 10_000)))) < 400
