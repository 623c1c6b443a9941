"""The engine interface: compile a network once, run it many times.

A network comes as an ONNX model, whose graph is plain arithmetic on ``(B, C, T, H, W)`` tensors:
batch, channels, rounds, and two directions of space. Nothing here knows what the channels mean.

Which engine a process uses where its callers do not say is settled once, at its start
(`use_engine`): OpenVINO on the processor, TensorRT or PyTorch on a GPU. The GPU's have not run yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from qdec.errors import EngineError, ModelError

if TYPE_CHECKING:
    from qdec.neural.collect import Collection
    from qdec.neural.onnx_model import Model

log = logging.getLogger("qdec.neural")
Floats = NDArray[np.float32]
Engine = Literal["openvino", "tensorrt", "torch"]
Choice = Literal["auto", "openvino", "tensorrt", "torch"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
# Which is taken of those that are there.
_PREFERRED: tuple[Engine, ...] = ("tensorrt", "torch", "openvino")
_PER_BUCKET = 4
_GPU_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "fp16")

_threads = 1
_engine: Engine = "openvino"
_batches: tuple[int, ...] = (1,)
_asked: PrecisionChoice = "auto"
_fallback = False
_may_build = True
_collection: Collection | None = None


def use_threads(count: int) -> None:
    """Give engines of this process so many threads each, unless their caller says otherwise."""
    global _threads
    _threads = count


def use_engine(
    wanted: Choice,
    *,
    fallback: bool = True,
    batch: int = 1,
    precision: PrecisionChoice = "auto",
) -> Engine:
    """Settle which engine this process uses unless callers say otherwise; before anything else.

    Args:
        wanted: one of them; or auto: TensorRT, else PyTorch on a GPU, else OpenVINO.
        fallback: take the processor's where the one that is wanted cannot be had, or cannot run a
            network, and say so in the log.
        batch: most inputs at once, which engines that are built for sizes are built for.
        precision: that networks run in where the engine and they have it; auto: see `precisions`.

    Returns:
        The one that is used.

    Raises:
        EngineError: it cannot be had; the message says why and what to do.
    """
    global _engine, _batches, _asked, _fallback
    _batches, _asked, _fallback = buckets(batch), precision, fallback
    why = check_engine(wanted, fallback=fallback)
    if wanted == "auto":
        _engine = next((one for one in _PREFERRED if not why_not(one)), "openvino")
    elif why:
        log.warning("engine '%s' cannot be had, networks run on the processor: %s", wanted, why)
        _engine = "openvino"
    else:
        _engine = wanted
    if _asked not in ("auto", *precisions()):
        log.warning("%s does not have %s here, but %s", _engine, _asked, ", ".join(precisions()))
    log.info("networks run in %s, %s", _engine, precisions()[-1])
    return _engine


def check_engine(wanted: Choice, *, fallback: bool) -> str:
    """Why an engine cannot be had, where the processor may take its place; empty if it can.

    Raises:
        EngineError: it cannot be had, and nothing may take its place.
    """
    why = "" if wanted == "auto" else why_not(wanted)
    if why and (not fallback or wanted == "openvino"):
        raise EngineError(
            f'engine = "{wanted}" cannot be had: {why}; or let the processor do it: '
            'engine = "auto", or fallback = true, under [accelerator]'
        )
    return why


def buckets(batch: int) -> tuple[int, ...]:
    """Batches that an engine is built for: powers of four, and the largest batch."""
    sizes, size = [], 1
    while size < batch:
        sizes.append(size)
        size *= _PER_BUCKET
    return (*sizes, batch)


def stop_building() -> None:
    """From here on this process serves: what has not been built ahead fails when it is called."""
    global _may_build
    _may_build = False


def may_build() -> bool:
    """Whether an engine may still take its time; see `stop_building`."""
    return _may_build


def collect_with(collection: Collection | None) -> Collection | None:
    """See `qdec.neural.collect.collecting`; returns what was collected with before."""
    global _collection
    before, _collection = _collection, collection
    return before


def engines() -> dict[Engine, str]:
    """Every engine, and why it cannot be had on this machine: empty if it can."""
    return {one: why_not(one) for one in ENGINES}


def why_not(engine: Engine) -> str:
    """Why an engine cannot be had, and what to do; empty if it can. PyTorch needs a GPU here."""
    try:
        _LOOKS[engine]()
    except EngineError as error:
        return str(error)
    return ""


class CompiledNetwork(Protocol):
    """A network ready to run. Not for two threads at once."""

    @property
    def channels(self) -> tuple[tuple[int, ...], int]:
        """Channels of each input, and of the output."""
        ...

    def __call__(self, *inputs: Floats) -> Floats:
        """Run it.

        The first call with a new shape takes longer, some tens of milliseconds, and in TensorRT
        tens of seconds where no plan was built ahead: warm up.

        Args:
            inputs: float32 ``(B, C_i, T, H, W)``, B >= 0, in the model's order.

        Returns:
            float32 ``(B, C', T, H, W)``, the caller's own. May hold NaN or infinity.

        Raises:
            EngineError: the inputs do not have the model's shape, or the engine failed.
            DeviceError: the GPU did, and the process cannot go on with it.
        """
        ...


def compile_network(
    onnx_model: bytes,
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
    engine: Engine | None = None,
) -> CompiledNetwork:
    """Check an ONNX model and compile it for this machine.

    Args:
        onnx_model: the serialised model; see `qdec.neural.onnx_model.parse_model` for what it may
            hold. It may come from anywhere.
        precision: of floating-point arithmetic; or int8: 8 bits where the model quantises its
            tensors itself, and the quickest floating-point arithmetic for the rest.
        threads: of the engine, the calling one included; what `use_threads` said if None.
        engine: what runs it; what `use_engine` settled if None. PyTorch without a GPU uses the
            processor.

    Raises:
        ModelError: the bytes are no such model, or one for int8 that quantises nothing.
        EngineError: the engine is not there, or does not have the precision on this machine.
    """
    from qdec.neural.onnx_model import parse_model

    threads = _threads if threads is None else threads
    if threads < 1:
        raise EngineError(f"an engine needs at least one thread, not {threads}")
    model = parse_model(onnx_model)
    chosen = _known(engine)
    if precision == "int8" and not model.quantised:
        raise ModelError("the ONNX model cannot run in 8 bits: it quantises none of its tensors")
    if _collection is not None:
        return _collection.network(model, precision)
    make = _MAKERS[chosen]
    if engine is not None or chosen == "openvino" or not _fallback:
        return make(model, precision, threads)
    from qdec.neural.fallback import WithFallback

    return WithFallback(
        lambda: make(model, precision, threads),
        lambda: _openvino(
            model, precision if precision in precisions("openvino") else "fp32", threads
        ),
    )


def precisions(engine: Engine | None = None) -> tuple[Precision, ...]:
    """What arithmetic an engine has on this machine; last what is used unless somebody asks.

    int8 is there for models that are prepared for it; see `compile_network`. On the processor it is
    the quickest and comes last; on GPUs fp16 does, until 8 bits have been measured there.

    Args:
        engine: which; what `use_engine` settled if None.

    Raises:
        EngineError: the engine is not there.
    """
    found = _GPU_PRECISIONS
    if _known(engine) == "openvino":
        from qdec.neural.openvino_engine import supported_precisions

        found = supported_precisions()
    asked = "auto" if engine is not None else _wish()
    return (*(one for one in found if one != asked), *(one for one in found if one == asked))


def floating() -> Precision:
    """What networks run in that quantise nothing: fp32 on the processor, fp16 on a GPU, or as
    `use_engine` was asked.
    """
    asked = _wish()
    if asked not in ("auto", "int8") and asked in precisions():
        return asked
    return "fp32" if _known(None) == "openvino" else "fp16"


def _wish() -> PrecisionChoice:
    return _asked if _collection is None else _collection.precision


def _known(engine: Engine | None) -> Engine:
    if engine is None:
        return _engine if _collection is None else _collection.engine
    if engine not in ENGINES:
        raise EngineError(f"unknown engine '{engine}': there are {', '.join(ENGINES)}")
    return engine


def _openvino(model: Model, precision: Precision, threads: int) -> CompiledNetwork:
    from qdec.neural.openvino_engine import OpenVinoNetwork

    return OpenVinoNetwork(model, precision=precision, threads=threads)


def _tensorrt(model: Model, precision: Precision, threads: int) -> CompiledNetwork:
    from qdec.neural.tensorrt.runner import TensorRTNetwork

    if precision == "bf16":
        raise EngineError("TensorRT has fp32, fp16 and int8 here, not bf16")
    return TensorRTNetwork(model, precision=precision, batches=_batches)


def _torch(model: Model, precision: Precision, threads: int) -> CompiledNetwork:
    from qdec.neural.torch_engine import TorchNetwork

    return TorchNetwork(model, precision=precision, threads=threads)


def _look_for_openvino() -> None:
    from qdec.neural.openvino_engine import supported_precisions

    supported_precisions()


def _look_for_tensorrt() -> None:
    from qdec.neural.tensorrt import runner

    runner.look()


def _look_for_torch() -> None:
    from qdec.neural import torch_engine

    torch_engine.gpu()


_MAKERS: dict[Engine, Callable[[Model, Precision, int], CompiledNetwork]] = {
    "openvino": _openvino,
    "tensorrt": _tensorrt,
    "torch": _torch,
}
_LOOKS: dict[Engine, Callable[[], None]] = {
    "openvino": _look_for_openvino,
    "tensorrt": _look_for_tensorrt,
    "torch": _look_for_torch,
}
