"""The CUDA driver as asked through ctypes: made-up libraries stand in for it and for NVML."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
CUDA = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return %(init)d; }
int cuGetErrorName(int error, const char **name) { *name = "CUDA_ERROR_NO_DEVICE"; return 0; }
int cuDeviceGetCount(int *count) { *count = %(count)d; return 0; }
int cuDeviceGet(int *device, int at) { *device = 7 + at; return 0; }
int cuDeviceGetName(char *name, int n, int device) { strncpy(name, "H200", n); return device < 7; }
int cuDeviceGetPCIBusId(char *bus, int n, int device) {
    strncpy(bus, device == 7 ? "0000:1B:00.0" : "0000:1C:00.0", n);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)141 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int what, int device) {
    *value = what == 75 ? 9 : what == 76 ? 0 : -1;
    return 0;
}
"""
NVML = """
#include <string.h>
static int open;
int nvmlInit_v2(void) { open = 1; return 0; }
int nvmlShutdown(void) { open = 0; return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
    *device = (void *)0x1234567890abcdefL;
    return !open || strcmp(bus, "0000:1B:00.0") != 0;
}
int nvmlDeviceGetPersistenceMode(void *device, unsigned *mode) {
    *mode = 1;
    return device != (void *)0x1234567890abcdefL;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later) { return 3; }
"""


def library(folder: Path, name: str, source: str) -> None:
    (folder / "x.c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-o", name, "x.c"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)


def asked(folder: Path) -> dict[str, Any]:
    """What the doctor's probe says, in a process that finds these libraries."""
    done = subprocess.run(
        [sys.executable, "-m", "qdec.doctor.probe", str(os.getpid()), "gpu", "{}"],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_gpus_are_told_with_all_that_is_known(tmp_path: Path) -> None:
    library(tmp_path, "libcuda.so.1", CUDA % {"init": 0, "count": 2})
    first, second = asked(tmp_path)["devices"]
    assert first["persistence"] is None, "without NVML"
    library(tmp_path, "libnvidia-ml.so.1", NVML)
    first, second = asked(tmp_path)["devices"]
    assert first == {
        "name": "H200",
        "capability": [9, 0],
        "memory": 141 << 30,
        "bus": "0000:1B:00.0",
        "persistence": True,
        "mig": None,
    }
    assert (second["bus"], second["persistence"]) == ("0000:1C:00.0", None)


@pytest.mark.parametrize(
    ("init", "count", "says"),
    [(100, 0, "does not start: CUDA_ERROR_NO_DEVICE (100)"), (0, 0, "CUDA_VISIBLE_DEVICES")],
)
def test_a_driver_without_gpus_says_what_to_do(
    tmp_path: Path, init: int, count: int, says: str
) -> None:
    library(tmp_path, "libcuda.so.1", CUDA % {"init": init, "count": count})
    assert says in asked(tmp_path)["trouble"]
