"""The CUDA driver, asked through ctypes: is it there, does it start, which GPUs does it see.

TensorRT's runtime crashes the process where there is no driver, so this is asked first. Nothing
here makes a context or takes memory on a GPU.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

from qdec.errors import EngineError

# CUdevice_attribute of cuda.h.
_MAJOR, _MINOR = 75, 76
_NAME_BYTES = 128


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU.

    Attributes:
        name: as the driver has it.
        capability: compute capability, such as (9, 0).
        memory: bytes of it.
    """

    name: str
    capability: tuple[int, int]
    memory: int


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
    for status in (
        cuda.cuDeviceGet(ctypes.byref(handle), at),
        cuda.cuDeviceGetName(name, _NAME_BYTES, handle),
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle),
    ):
        _check(cuda, status, f"GPU {at} cannot be asked")
    text = name.value.decode(errors="replace")
    return Device(text, (major.value, minor.value), memory.value)


def _check(cuda: ctypes.CDLL, status: int, what: str) -> None:
    if status:
        name = ctypes.c_char_p()
        cuda.cuGetErrorName(status, ctypes.byref(name))
        raise EngineError(
            f"{what}: {(name.value or b'error').decode()} ({status}); `nvidia-smi` should work "
            "for this user first"
        )
