"""PyTorch where the executor expects a TensorRT program: same addresses, same stream, same graph.

For machines whose TensorRT is missing or refused. What PyTorch allocates on the way lies in a pool
of the program's own, so that a captured graph finds it as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qdec.neural.torch_engine import TorchNetwork, torch_module

_INPUT, _OUTPUT = "x", "y"


class TorchProgram:
    """See `qdec.cuda.runtime.Program`. Has not run on a GPU yet."""

    outputs = (_OUTPUT,)

    def __init__(self, network: TorchNetwork, batches: tuple[int, ...], *, half: bool) -> None:
        """Wrap a network that is on the GPU.

        Args:
            network: of one input, in fp16 if `half`, else in fp32.
            batches: that it is called with.
            half: see there.
        """
        self.batches = batches
        kind: np.dtype[Any] = np.dtype(np.float16 if half else np.float32)
        self.dtypes = {_INPUT: kind, _OUTPUT: kind}
        self._torch, self._network = torch_module(), network
        self._pool = self._torch.cuda.MemPool()
        self._shape: tuple[int, ...] = ()
        self._views: dict[tuple[int, int, int], tuple[Any, Any]] = {}

    def prepare(self, shapes: Mapping[str, tuple[int, ...]], stream: int) -> None:
        """Have cuDNN choose its kernels for every batch, which it may not while captured."""
        torch = self._torch
        self._shape = shapes[_INPUT]
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)), self._own_memory():
            for batch in self.batches:
                given = torch.zeros((batch, *self._shape), device="cuda", dtype=self._type())
                for _ in range(2):
                    self._run(given)
        torch.cuda.synchronize()

    def enqueue(self, bucket: int, addresses: Mapping[str, int], stream: int) -> None:
        """Run asynchronously; may be captured into a graph."""
        torch = self._torch
        x, y = self._tensors(bucket, addresses[_INPUT], addresses[_OUTPUT])
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)), self._own_memory():
            answer = self._run(x)
            with torch.inference_mode():
                y.copy_(answer)

    def _run(self, x: Any) -> Any:
        last = self._torch.channels_last_3d
        return self._network.forward(x.contiguous(memory_format=last))

    def _own_memory(self) -> Any:
        return self._torch.cuda.use_mem_pool(self._pool)

    def _type(self) -> Any:
        half = self.dtypes[_INPUT].itemsize == 2
        return self._torch.float16 if half else self._torch.float32

    def _tensors(self, bucket: int, x: int, y: int) -> tuple[Any, Any]:
        """Tensors over the caller's memory, made once."""
        at = bucket, x, y
        if at not in self._views:
            batch, (channels, *size) = self.batches[bucket], self._shape
            out = self._network.channels[1]
            self._views[at] = (
                self._view(x, (batch, channels, *size)),
                self._view(y, (batch, out, *size)),
            )
        return self._views[at]

    def _view(self, address: int, shape: tuple[int, ...]) -> Any:
        interface = {
            "data": (address, False),
            "shape": shape,
            "typestr": self.dtypes[_INPUT].str,
            "version": 3,
        }
        holder = type("Memory", (), {"__cuda_array_interface__": interface})()
        return self._torch.as_tensor(holder, device="cuda")
