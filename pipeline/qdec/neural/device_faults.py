"""What is wrong with a GPU, from the words that CUDA and the libraries around it raise."""

from __future__ import annotations

import re

from qdec.errors import DeviceError, DeviceFault

# Names are CUDA's own (runtime and driver API), words those of its messages. Runtime errors such as
# an illegal address are sticky: the context answers nothing else from then on.
_SAYS = (
    (
        DeviceFault.MEMORY,
        r"out ?of ?memory|MemoryAllocation|OUT_OF_MEMORY|MemoryError",
    ),
    (
        DeviceFault.LOST,
        r"DevicesUnavailable|DEVICE_UNAVAILABLE|NoDevice|NO_DEVICE|ECCUncorrectable|"
        r"ECC_UNCORRECTABLE|uncorrectable ECC|NvlinkUncorrectable|NVLINK_UNCORRECTABLE|"
        r"SystemNotReady|SYSTEM_NOT_READY|ContainedError|fallen off the bus|GPU is lost|"
        r"no CUDA-capable device|devices? (is|are) busy or unavailable",
    ),
    (DeviceFault.HUNG, r"LaunchTimeout|LAUNCH_TIMEOUT|launch timed out"),
)
_LONGEST = 300


def device_error(error: BaseException) -> DeviceError:
    """What a library raised while a GPU worked, as the error that ends the process."""
    lines = str(error).splitlines() or [""]
    said = f"{type(error).__name__}: {lines[0]}"[:_LONGEST]
    for fault, words in _SAYS:
        if re.search(words, said, re.IGNORECASE):
            return DeviceError(fault, said)
    return DeviceError(DeviceFault.ERROR, said)
