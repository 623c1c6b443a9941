"""What a GPU needs to answer windows: driver, memory, packages, neighbourhood.

Without a GPU this is one line: networks run on the processor then, which is no fault.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Collection, Mapping
from typing import Any

from qdec.doctor.check import Check
from qdec.doctor.cpu import format_cores, parse_cores
from qdec.doctor.machine import CAP_IPC_LOCK, Answer, Machine
from qdec.findings import Finding, fail, limit_fix, ok, unknown, warn

_PROBE_S = 2.5
_NVIDIA = "0x10de"
_DISPLAY = ("0x0300", "0x0302")  # classes of PCI devices: VGA and 3D controllers
_LEAST_DRIVER = 580  # CUDA 13's
_LEAST_CAPABILITY = [8, 0]  # what kernels are compiled for, at least
_PINNED_BYTES = 1 << 30
_EXTRA = "pip install 'qdec[gpu]'"
_NEEDED_BY = {
    "tensorrt": "no engine runs networks on the GPU, unless PyTorch does",
    "cupy": "neither kernels nor streams nor TensorRT can be used",
    "pycuda": "rounds cannot be read by the GPU where they were received",
}
Row = Mapping[str, Any]


def judge_driver(has_gpu: bool, version: str | None, answer: Answer) -> Finding:
    """The driver, or that there is no GPU.

    Args:
        has_gpu: there is one of NVIDIA's on the bus, or its driver is loaded.
        version: /proc/driver/nvidia/version.
        answer: of the probe ``gpu``; empty where it was not asked.
    """
    if not has_gpu:
        return ok("no NVIDIA GPU: networks run on the processor")
    if version is None:
        return warn(
            "an NVIDIA GPU, and no driver: networks run on the processor",
            f"install NVIDIA's driver, {_LEAST_DRIVER} or newer (in a container: --gpus all)",
        )
    number = re.search(r"\b(\d{3,4})\.\d+(\.\d+)?\b", version)
    said = number[0] if number else version.splitlines()[0][:60]
    if number and int(number[1]) < _LEAST_DRIVER:
        return warn(f"{said}: too old for CUDA 13", f"install {_LEAST_DRIVER} or newer")
    if trouble := answer.facts.get("trouble"):
        return warn(f"{said}, but {trouble}", "nvidia-smi should work for this user first")
    return ok(said) if answer.facts else unknown(f"{said}; {answer.trouble}")


def judge_devices(devices: Collection[Row]) -> Finding:
    """GPUs: name, memory, compute capability."""
    if not devices:
        return unknown("the driver did not answer")
    value = "; ".join(
        f"{one['name']}, {one['memory'] / 2**30:.0f} GiB, compute capability "
        f"{'.'.join(map(str, one['capability']))}"
        for one in devices
    )
    if all(list(one["capability"]) < _LEAST_CAPABILITY for one in devices):
        return warn(f"{value}: no kernel is compiled for that", "use a GPU of Ampere or later")
    return ok(value)


def judge_persistence(devices: Collection[Row]) -> Finding:
    """Whether the driver stays loaded while nobody uses the GPU."""
    modes = [one["persistence"] for one in devices if one.get("persistence") is not None]
    if not modes:
        return unknown("not told")
    if all(modes):
        return ok("on")
    return warn(
        "off: the first use after a pause waits for the GPU to be set up, for seconds",
        "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1",
    )


def judge_mig(devices: Collection[Row]) -> Finding:
    """Whether GPUs are cut into slices."""
    modes = [one["mig"] for one in devices if one.get("mig") is not None]
    if any(modes):
        return warn(
            "on: the service has a slice of a GPU, and shares its memory's speed with others",
            "nvidia-smi -mig 0, or name the slice that is the service's in CUDA_VISIBLE_DEVICES",
        )
    return ok("off" if modes else "this GPU has none")


def judge_numa(
    node: str | None, nodes: Mapping[int, Collection[int]], lanes: Collection[int]
) -> Finding:
    """Whether lanes' cores are near the GPU.

    Args:
        node: the GPU's NUMA node, as PCI has it; -1 for none.
        nodes: cores of each node.
        lanes: cores that lanes are pinned to.
    """
    if node is None:
        return unknown("not exposed")
    near = nodes.get(int(node), ())
    if int(node) < 0 or len(nodes) < 2 or not near:
        return ok("one node for all")
    value = f"the GPU is at node {node} (cores {format_cores(near)})"
    far = set(lanes) - set(near)
    if far:
        return warn(
            f"{value}, and lanes are on {format_cores(far)}",
            f"cpu = {min(near)} (one of {format_cores(near)}) under [[lane]] and [accelerator]",
        )
    return ok(value if lanes else f"{value}; lanes are not pinned")


def judge_package(name: str, found: str | None) -> Finding:
    """A package of the extra ``gpu``, by its version."""
    if found is not None:
        return ok(found)
    return warn(f"not installed: {_NEEDED_BY[name]}", _EXTRA)


def judge_torch(found: str | None) -> Finding:
    """PyTorch, which only stands in for TensorRT."""
    if found is None:
        return ok("not installed; it only stands in for TensorRT")
    return ok(f"{found}, without CUDA" if "+cpu" in found else found)


def judge_memlock(soft: int, hard: int, *, privileged: bool) -> Finding:
    """RLIMIT_MEMLOCK, for the memory that the GPU reads: `soft` may be raised to `hard`."""
    if privileged or hard == resource.RLIM_INFINITY or hard >= _PINNED_BYTES:
        value = "CAP_IPC_LOCK" if privileged else "no limit"
        return ok(value if privileged or hard < 0 else f"up to {hard >> 20} MiB")
    return warn(
        f"{soft >> 10} KiB, up to {hard >> 10} KiB: memory that is to be pinned may not be",
        limit_fix("memlock", "infinity", "unlimited"),
    )


def judge_reserved(meminfo: str | None) -> Finding:
    """Huge pages that were set aside, which nothing here needs."""
    total = re.search(r"^HugePages_Total:\s+(\d+)", meminfo or "", re.MULTILINE)
    size = re.search(r"^Hugepagesize:\s+(\d+) kB", meminfo or "", re.MULTILINE)
    if total is None or size is None:
        return unknown("not exposed")
    count = int(total[1])
    return ok(f"{count} of {int(size[1]) >> 10} MiB set aside" if count else "none set aside")


def judge_engine(engine: str, fallback: bool, missing: Mapping[str, str]) -> Finding:
    """Whether the configuration's engine can be had.

    Args:
        engine: as configured.
        fallback: the processor's may take its place.
        missing: why each of the GPU's engines cannot be had; those that can are not in it.
    """
    there = [one for one in ("tensorrt", "torch") if one not in missing]
    if engine == "openvino" or (engine == "auto" and not there):
        return ok("openvino, on the processor")
    if engine == "auto":
        return ok(f"{there[0]} (auto)")
    if engine in there:
        return ok(engine)
    fix = f'{missing[engine]}; or engine = "auto" under [accelerator]'
    if fallback:
        return warn(f"{engine} cannot be had: networks run on the processor", fix)
    return fail(f"{engine} cannot be had, and fallback = false", fix)


def has_gpu(machine: Machine) -> bool:
    """Whether there is one of NVIDIA's, or its driver."""
    if machine.text("/proc/driver/nvidia/version") is not None:
        return True
    vendors = machine.texts("/sys/bus/pci/devices/*/vendor")
    found = [path for path, vendor in vendors.items() if vendor == _NVIDIA]
    classes = [machine.text(path.replace("/vendor", "/class")) or "" for path in found]
    return any(one.startswith(_DISPLAY) for one in classes)


def _has_driver(machine: Machine) -> bool:
    return machine.text("/proc/driver/nvidia/version") is not None


def _answer(machine: Machine) -> Answer:
    return machine.probe("gpu", _PROBE_S) if _has_driver(machine) else Answer({})


def _devices(machine: Machine) -> list[Row]:
    return list(_answer(machine).facts.get("devices", ()))


def _found(machine: Machine, name: str) -> str | None:
    version: str | None = _answer(machine).facts.get("packages", {}).get(name)
    return version


def _package(name: str) -> Check:
    def look(machine: Machine) -> Finding:
        answer = _answer(machine)
        return (
            judge_package(name, _found(machine, name)) if answer.facts else unknown(answer.trouble)
        )

    return Check(name, look, when=_has_driver)


def _numa(machine: Machine) -> Finding:
    devices = _devices(machine)
    if not devices:
        return unknown("the driver did not answer")
    bus = str(devices[0]["bus"]).lower()
    texts = machine.texts("/sys/devices/system/node/node*/cpulist")
    nodes = {
        int(path.split("/node")[-1].split("/")[0]): parse_cores(t) for path, t in texts.items()
    }
    lanes = [core for core in machine.lane_cores if core is not None]
    return judge_numa(machine.text(f"/sys/bus/pci/devices/{bus}/numa_node"), nodes, lanes)


def _memlock(machine: Machine) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return judge_memlock(soft, hard, privileged=machine.capable(CAP_IPC_LOCK))


def _nvcc(machine: Machine) -> Finding:
    there = machine.texts("/usr/local/cuda*/version.json")
    return ok(
        f"{', '.join(path.split('/')[3] for path in there)} under /usr/local"
        if there
        else "not found; only `make kernels` needs it"
    )


def _engine(machine: Machine) -> Finding:
    config = machine.usable_config
    if config is None:
        return unknown("the configuration is wrong")
    settings = config.accelerator
    missing = {}
    if not _devices(machine):
        missing = dict.fromkeys(("tensorrt", "torch"), "see driver above")
    else:
        if lacking := [one for one in ("tensorrt", "cupy") if _found(machine, one) is None]:
            missing["tensorrt"] = f"{_EXTRA} ({', '.join(lacking)} is not installed)"
        if "+cpu" in (torch := _found(machine, "torch") or "+cpu"):
            missing["torch"] = f"pip install torch, built for CUDA (here: {torch})"
    return judge_engine(settings.engine, settings.fallback, missing)


CHECKS = (
    Check(
        "driver",
        lambda m: judge_driver(has_gpu(m), m.text("/proc/driver/nvidia/version"), _answer(m)),
    ),
    Check("gpu", lambda m: judge_devices(_devices(m)), when=_has_driver),
    Check("persistence", lambda m: judge_persistence(_devices(m)), when=_has_driver),
    Check("mig", lambda m: judge_mig(_devices(m)), when=_has_driver),
    Check("numa", _numa, when=_has_driver),
    Check("pinned memory", _memlock, when=_has_driver),
    Check("huge pages", lambda m: judge_reserved(m.text("/proc/meminfo")), when=_has_driver),
    *(_package(name) for name in _NEEDED_BY),
    Check("torch", lambda m: judge_torch(_found(m, "torch")), when=_has_driver),
    Check("nvcc", _nvcc, when=_has_driver),
    Check("engine", _engine, with_config=True),
)
