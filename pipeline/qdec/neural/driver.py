"""The CUDA driver, asked through ctypes: is it there, does it start, which GPUs does it see.

TensorRT's runtime crashes the process where there is no driver, so this is asked first. Nothing
here makes a context or takes memory on a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from qdec.errors import EngineError

# CUdevice_attribute of cuda.h.
_MAJOR, _MINOR = 75, 76
_NAME_BYTES, _BUS_BYTES = 128, 32


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU.

    Attributes:
        name: as the driver has it.
        capability: compute capability, such as (9, 0).
        memory: bytes of it.
        bus: its PCI address, such as ``0000:1b:00.0``.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    bus: str


@cache
def devices() -> tuple[Device, ...]:
    """The GPUs that this process may use (``CUDA_VISIBLE_DEVICES`` counts), at least one.

    Raises:
        EngineError: there is none, or no driver that works.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise EngineError(
            "no NVIDIA driver (libcuda.so.1): install one for CUDA 13 (580 or newer), and in "
            "a container run it with --gpus all"
        ) from None
    _check(cuda, cuda.cuInit(0), "the NVIDIA driver does not start")
    count = ctypes.c_int()
    _check(cuda, cuda.cuDeviceGetCount(ctypes.byref(count)), "GPUs cannot be counted")
    if not count.value:
        raise EngineError("the NVIDIA driver shows no GPU: see CUDA_VISIBLE_DEVICES")
    return tuple(_device(cuda, at) for at in range(count.value))


def _device(cuda: ctypes.CDLL, at: int) -> Device:
    handle, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    memory, major, minor = ctypes.c_size_t(), ctypes.c_int(), ctypes.c_int()
    bus = ctypes.create_string_buffer(_BUS_BYTES)
    for status in (
        cuda.cuDeviceGet(ctypes.byref(handle), at),
        cuda.cuDeviceGetName(name, _NAME_BYTES, handle),
        cuda.cuDeviceGetPCIBusId(bus, _BUS_BYTES, handle),
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle),
    ):
        _check(cuda, status, f"GPU {at} cannot be asked")
    text = name.value.decode(errors="replace")
    return Device(text, (major.value, minor.value), memory.value, bus.value.decode())


def modes(buses: Sequence[str]) -> list[dict[str, bool | None]]:
    """``persistence`` and ``mig`` of GPUs by PCI address, as NVML has them; None where it does not.

    It ships with the driver, and tells them to anybody.
    """
    nothing: dict[str, bool | None] = {"persistence": None, "mig": None}
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return [dict(nothing) for _ in buses]
    if nvml.nvmlInit_v2():
        return [dict(nothing) for _ in buses]
    try:
        return [_modes(nvml, bus) for bus in buses]
    finally:
        nvml.nvmlShutdown()


def _modes(nvml: ctypes.CDLL, bus: str) -> dict[str, bool | None]:
    handle, persistence = ctypes.c_void_p(), ctypes.c_uint()
    now, later = ctypes.c_uint(), ctypes.c_uint()
    if nvml.nvmlDeviceGetHandleByPciBusId_v2(bus.encode(), ctypes.byref(handle)):
        return {"persistence": None, "mig": None}
    unknown = nvml.nvmlDeviceGetPersistenceMode(handle, ctypes.byref(persistence))
    no_mig = nvml.nvmlDeviceGetMigMode(handle, ctypes.byref(now), ctypes.byref(later))
    return {
        "persistence": None if unknown else bool(persistence.value),
        "mig": None if no_mig else bool(now.value),
    }


def _check(cuda: ctypes.CDLL, status: int, what: str) -> None:
    if status:
        name = ctypes.c_char_p()
        cuda.cuGetErrorName(status, ctypes.byref(name))
        raise EngineError(
            f"{what}: {(name.value or b'error').decode()} ({status}); `nvidia-smi` should work "
            "for this user first"
        )
