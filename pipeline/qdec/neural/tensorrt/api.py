"""Which TensorRT is there: three packages with one interface, told apart by what they can do."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from qdec.errors import EngineError
from qdec.neural import driver

# In the order in which they are taken. The last is TensorRT-RTX, whose plans are finished for the
# GPU when they are loaded.
MODULES = ("tensorrt", "tensorrt_bindings", "tensorrt_rtx_bindings")
# All that `build` and `runner` use, by class; "" is the module itself.
USED: dict[str, tuple[str, ...]] = {
    "": (
        "Builder",
        "BuilderFlag",
        "DataType",
        "NetworkDefinitionCreationFlag",
        "OnnxParser",
        "Runtime",
        "TensorIOMode",
    ),
    "Builder": (
        "build_serialized_network",
        "create_builder_config",
        "create_network",
        "create_optimization_profile",
    ),
    "BuilderFlag": ("TF32",),
    "DataType": ("FLOAT", "HALF"),
    "IBuilderConfig": ("add_optimization_profile", "clear_flag"),
    "ICudaEngine": (
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "num_io_tensors",
        "num_optimization_profiles",
    ),
    "IExecutionContext": (
        "execute_async_v3",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    ),
    "ILogger": ("ERROR", "INTERNAL_ERROR"),
    "IOptimizationProfile": ("set_shape",),
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "OnnxParser": ("get_error", "num_errors", "parse"),
    "Runtime": ("deserialize_cuda_engine",),
    "TensorIOMode": ("INPUT",),
}
_INSTALL = "pip install 'qdec[gpu]' brings TensorRT"


@dataclass(frozen=True, slots=True)
class Api:
    """A TensorRT that can do what is needed.

    Attributes:
        module: the Python module.
        flavour: ``tensorrt`` or ``tensorrt-rtx``.
        version: as it says itself.
    """

    module: Any
    flavour: str
    version: str

    @property
    def builds_without_gpu(self) -> bool:
        """Whether plans can be made for a GPU that is not there."""
        return hasattr(self.module.IBuilderConfig, "set_compute_capability")

    def targets(self) -> dict[tuple[int, int], Any]:
        """Compute capabilities that plans can be made for where they are not."""
        if not self.builds_without_gpu:
            return {}
        members = self.module.ComputeCapability.__members__.items()
        # SM89 is 8.9, SM120 is 12.0.
        return {(int(n[2:-1]), int(n[-1])): v for n, v in members if n.startswith("SM")}


@cache
def tensorrt() -> Api:
    """The first of `MODULES` that loads and has all of `USED`.

    Raises:
        EngineError: none does; the message says what to do.
    """
    troubles = []
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                troubles.append(f"{name} does not load: {error}")
            continue
        except Exception as error:  # whatever a broken installation raises
            troubles.append(f"{name} does not load: {type(error).__name__}: {error}")
            continue
        version = str(getattr(module, "__version__", "of no version"))
        lacking = missing(module)
        if not lacking:
            flavour = "tensorrt-rtx" if "rtx" in name else "tensorrt"
            return Api(module, flavour, version)
        troubles.append(f"{name} {version} is too old or too new: it has no {lacking[0]}")
    raise EngineError(f"{'; '.join(troubles) or 'TensorRT is not installed'}: {_INSTALL}")


def missing(module: Any) -> tuple[str, ...]:
    """What of `USED` a module lacks, by dotted names."""
    found = []
    for owner, names in USED.items():
        holder = getattr(module, owner, None) if owner else module
        prefix = f"{owner}." if owner else ""
        found += [f"{prefix}{name}" for name in names if not hasattr(holder, name)]
    return tuple(found)


def ready() -> Api:
    """TensorRT, with a GPU to run on.

    Raises:
        EngineError: one of them is missing.
    """
    driver.devices()  # first: it takes no time, and TensorRT crashes where there is no driver
    return tensorrt()


def logger(api: Api, said: list[str]) -> Any:
    """A logger that keeps errors, for the message that is made of them."""
    base = api.module.ILogger
    grave = (base.ERROR, base.INTERNAL_ERROR)

    def log(self: Any, severity: Any, text: str) -> None:
        if severity in grave:
            said.append(text)

    made = type("Kept", (base,), {"__init__": lambda self: base.__init__(self), "log": log})
    return made()
