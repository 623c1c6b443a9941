"""PyTorch: on a GPU where there is no TensorRT, and its oracle; on the processor in tests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from qdec.errors import EngineError
from qdec.neural import driver
from qdec.neural.device_faults import device_error
from qdec.neural.onnx_model import Model, check_inputs

if TYPE_CHECKING:
    from qdec.neural.engine import Floats, Precision


@cache
def torch_module() -> Any:
    """The process's PyTorch, imported when first asked for.

    Raises:
        EngineError: it does not load.
    """
    try:
        import torch
    except Exception as error:  # a broken installation raises OSError as well
        raise EngineError(f"PyTorch does not load ({error}): pip install torch") from None
    return torch


def gpu() -> str:
    """The name of PyTorch's GPU.

    Raises:
        EngineError: the driver or PyTorch is missing, or sees none.
    """
    driver.devices()  # first: PyTorch takes seconds to load
    torch = torch_module()
    if not torch.cuda.is_available():
        built = torch.version.cuda
        raise EngineError(
            "PyTorch sees no GPU"
            + (f" (it is built for CUDA {built})" if built else ", since it is built without CUDA")
            + ": `qdec doctor` says what is missing"
        )
    return str(torch.cuda.get_device_name())


class TorchNetwork:
    """A network run by PyTorch, operator by operator. See `CompiledNetwork`.

    On a GPU tensors are laid out channels-last, and fp16 means weights and activations of 16 bits.
    Models that quantise their tensors are computed as if in 8 bits, in floating point: exact, no
    quicker. That has not run on a GPU.
    """

    def __init__(
        self, model: Model, *, precision: Precision, threads: int, device: str = "auto"
    ) -> None:
        """Put the weights on the device.

        Args:
            model: the network.
            precision: fp32 or fp16; int8 for models that quantise their tensors.
            threads: on the processor.
            device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.

        Raises:
            EngineError: there is no such device, or it does not have the precision.
        """
        from qdec.neural.torch_operators import steps

        torch = torch_module()
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda":
            gpu()
        known = ("fp32", "int8", "fp16") if device == "cuda" else ("fp32", "int8")
        if precision not in known:
            raise EngineError(
                f"precision '{precision}' is not to be had from PyTorch on {device}: it has "
                f"{', '.join(known)}"
            )
        self._torch, self._model, self._threads = torch, model, threads
        self._device = torch.device(device)
        half = device == "cuda" and precision != "fp32"
        self._type = torch.float16 if half else torch.float32
        constants, self._steps, self._output = steps(torch, model.content, self._type)
        self._constants = {name: self._placed(one) for name, one in constants.items()}

    @property
    def channels(self) -> tuple[tuple[int, ...], int]:
        """Channels of each input, and of the output."""
        return tuple(shape[0] for shape in self._model.inputs), self._model.channels

    def __call__(self, *inputs: Floats) -> Floats:
        """See `CompiledNetwork.__call__`."""
        check_inputs(self._model, inputs)
        batch, _, *size = inputs[0].shape
        if not batch:
            return np.zeros((0, self._model.channels, *size), dtype=np.float32)
        torch = self._torch
        before = torch.get_num_threads()
        try:
            if self._device.type == "cpu":
                torch.set_num_threads(self._threads)
            given = [self._placed(torch.from_numpy(np.array(one))) for one in inputs]
            answer = self.forward(*given).to(torch.float32).cpu().contiguous()
        except RuntimeError as error:  # CUDA's errors are as well
            if self._device.type != "cpu":
                raise device_error(error) from None
            raise EngineError(f"PyTorch failed: {str(error).splitlines()[0][:300]}") from None
        finally:
            torch.set_num_threads(before)
        return np.array(answer.numpy())

    def forward(self, *inputs: Any) -> Any:
        """The network on tensors that are on its device, in its type; waits for nothing.

        May be captured into a CUDA graph, from the second call with a shape on.

        Args:
            inputs: tensors ``(B, C_i, T, H, W)``, in the model's order, unchecked.

        Returns:
            A tensor ``(B, C', T, H, W)`` of the same type.
        """
        torch = self._torch
        values = {**self._constants, **dict(zip(self._model.names, inputs, strict=True))}
        # fp32 is to be what it says, and the quickest kernel for a shape is looked for once.
        how = {"enabled": True, "benchmark": True, "allow_tf32": False}
        with torch.inference_mode(), torch.backends.cudnn.flags(**how):
            for run, names, out in self._steps:
                values[out] = run(*(values[name] if name else None for name in names))
        return values[self._output]

    def _placed(self, tensor: Any) -> Any:
        """On the device, in its type and layout."""
        if not tensor.is_floating_point():
            return tensor.to(self._device)
        if tensor.ndim != 5 or self._device.type == "cpu":
            return tensor.to(self._device, self._type)
        last = self._torch.channels_last_3d
        return tensor.to(self._device, self._type, memory_format=last)
