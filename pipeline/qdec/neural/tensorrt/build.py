"""From an ONNX model to a plan: one for a size of window, with a profile for each batch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from qdec.errors import EngineError, ModelError
from qdec.neural import driver
from qdec.neural.onnx_model import Model, parse_model
from qdec.neural.tensorrt.api import Api, logger, tensorrt
from qdec.neural.tensorrt.half import Form, as_half, signed

Precision = Literal["fp32", "fp16", "int8"]
Capability = tuple[int, int]
_MAX_BATCH = 65_536
_MAX_PROFILES = 16
_LEAST_PORTABLE = (8, 0)  # what TensorRT-RTX's plans for no GPU in particular are for


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a plan is built from.

    Attributes:
        content: the float32 ONNX model; see `qdec.neural.onnx_model.parse_model`.
        size: (rounds, height, width) of its windows.
        batches: numbers of windows that are run together, ascending. Each is a profile of its own,
            of exactly that size, so that kernels are chosen for it; smaller batches are padded.
        precision: of the arithmetic; int8 has fp16 where nothing is quantised.
        io: of inputs and output in the GPU's memory.
    """

    content: bytes
    size: tuple[int, int, int]
    batches: tuple[int, ...] = (1,)
    precision: Precision = "fp16"
    io: Form = "fp32"

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            EngineError: they are out of range, or fp32 arithmetic is to have fp16 inputs.
        """
        if list(self.batches) != sorted(set(self.batches)) or not self.batches:
            raise EngineError(f"batches {list(self.batches)} are not ascending numbers")
        if not (self.batches[0] >= 1 and self.batches[-1] <= _MAX_BATCH):
            raise EngineError(f"batches are from 1 to {_MAX_BATCH:,}, not {list(self.batches)}")
        if len(self.batches) > _MAX_PROFILES:
            raise EngineError(f"at most {_MAX_PROFILES} batches have a profile in one plan")
        if len(self.size) != 3 or not all(n >= 1 for n in self.size):
            raise EngineError(f"windows of size {self.size} are none")
        if self.precision == "fp32" and self.io != "fp32":
            raise EngineError("arithmetic in fp32 takes inputs in fp32")

    @property
    def sha256(self) -> str:
        """Of the model, hex."""
        return hashlib.sha256(self.content).hexdigest()

    def check(self) -> Model:
        """The model, checked, of the recipe's size.

        Raises:
            ModelError: it is none, of another size, or quantises nothing and is to run in 8 bits.
        """
        model = parse_model(self.content)
        for _, *own in model.inputs:
            if any(wants not in (None, n) for wants, n in zip(own, self.size, strict=True)):
                raise ModelError(f"the ONNX model is for windows of {own}, not {self.size}")
        if self.precision == "int8" and not model.quantised:
            raise ModelError("the model cannot run in 8 bits: it quantises none of its tensors")
        return model

    def typed(self) -> bytes:
        """The model with the precision written into it."""
        if self.precision == "fp32":
            return self.content
        content = signed(self.content) if self.precision == "int8" else self.content
        return as_half(content, io=self.io)


def build(recipe: Recipe, capability: Capability | None = None) -> bytes:
    """Build a plan: tens of seconds on a GPU, which is busy with it; so never while it serves.

    Args:
        recipe: of what.
        capability: compute capability to build for where that GPU is not here (TensorRT-RTX only);
            None: the GPU that is here.

    Raises:
        ModelError: the recipe does not hold.
        EngineError: TensorRT is not there, or there is nothing to build for, or it refuses.
    """
    model = recipe.check()
    api = tensorrt()
    target = _target(api, capability)
    trt, said = api.module, list[str]()
    keeps = logger(api, said)
    builder = trt.Builder(keeps)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, keeps)
    if not parser.parse(recipe.typed()):
        said += [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise EngineError(f"{_named(api)} cannot read the model: {_last(said)}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 is to be what it says
    if target is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(target, 0)
    for batch in recipe.batches:
        profile = builder.create_optimization_profile()
        for name, (channels, *_) in zip(model.names, model.inputs, strict=True):
            shape = (batch, channels, *recipe.size)
            profile.set_shape(name, shape, shape, shape)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(
                f"{_named(api)} takes no profile for a batch of {batch}: {_last(said)}"
            )
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{_named(api)} cannot build windows of {recipe.size} in batches up to "
            f"{recipe.batches[-1]} ({recipe.precision}): {_last(said)}"
        )
    return bytes(plan)


def here(api: Api, capability: Capability | None = None) -> tuple[str, Capability]:
    """Name and compute capability of the GPU that plans are for.

    Plans of TensorRT-RTX suit any GPU of a compute capability, so they name none.

    Raises:
        EngineError: there is none, and `capability` does not say which is meant.
    """
    if capability is None:
        found = driver.devices()[0]
        return ("" if api.builds_without_gpu else found.name), found.capability
    return "", capability


def _target(api: Api, capability: Capability | None) -> Any:
    """What TensorRT calls the GPU to build for; None for the one here, or for all of RTX's.

    Raises:
        EngineError: it cannot build for that.
    """
    if capability is None:
        driver.devices()
        return None
    if not api.builds_without_gpu:
        raise EngineError(
            f"{_named(api)} builds for the GPU that is here only: leave --compute-capability out "
            "on a machine with the GPU, or install TensorRT-RTX to build without one"
        )
    targets = api.targets()
    if capability not in targets and capability < _LEAST_PORTABLE:
        known = ", ".join(f"{a}.{b}" for a, b in sorted(targets))
        raise EngineError(
            f"{_named(api)} cannot build for compute capability {capability[0]}.{capability[1]}: "
            f"it knows {known}, and plans for any GPU from {_LEAST_PORTABLE[0]}.0 on"
        )
    return targets.get(capability)


def _named(api: Api) -> str:
    return f"{api.flavour} {api.version}"


def _last(said: list[str]) -> str:
    return said[-1].strip()[:300] if said else "it does not say why"
