"""Files like NVIDIA's published ones, with random weights, and their forward pass in NumPy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.lib.stride_tricks import sliding_window_view

from qdec.neural.engine import Floats
from qdec.neural.ising.network import PUBLISHED, Architecture

Tensors = dict[str, np.ndarray]


def random_stack(architecture: Architecture, seed: int = 0, dtype: Any = np.float16) -> Tensors:
    """Tensors named as PyTorch names those of a Sequential with activations in between."""
    rng = np.random.default_rng(seed)
    out = {}
    for i, shape in enumerate(architecture.shapes):
        scale = math.sqrt(2 / math.prod(shape[1:]))
        # Three modules for each layer, so that from the fourth on the names have two digits.
        out[f"net.{3 * i}.weight"] = (scale * rng.standard_normal(shape)).astype(dtype)
        out[f"net.{3 * i}.bias"] = (0.1 * rng.standard_normal(shape[0])).astype(dtype)
    return out


def metadata(number: int = 1, **changes: str | None) -> dict[str, str]:
    """Of a published file of that number, with some keys changed (None: left out)."""
    architecture = PUBLISHED[number]
    found: dict[str, str | None] = {
        "model_id": str(number),
        "quant_format": "fp16",
        "model_version": "predecoder_memory_v1.0",
        "receptive_field": str(architecture.receptive_field),
        "num_filters": json.dumps(architecture.filters),
        "kernel_size": json.dumps(architecture.kernels),
    }
    found |= changes
    return {key: value for key, value in found.items() if value is not None}


def write(path: Path, tensors: Tensors, told: dict[str, str]) -> Path:
    path.write_bytes(safetensors.numpy.save(tensors, told))
    return path


def forward(tensors: list[tuple[np.ndarray, np.ndarray]], x: Floats) -> np.ndarray:
    """``(B, 4, T, D, D)`` through the stack of (kernel, bias) in double precision."""
    out = x.astype(np.float64)
    for i, (kernel, bias) in enumerate(tensors):
        k = kernel.shape[-1]
        padded = np.pad(out, [(0, 0), (0, 0)] + [(k // 2, k // 2)] * 3)
        patches = sliding_window_view(padded, (k, k, k), axis=(2, 3, 4))
        out = np.einsum("bcthwijk,ocijk->bothw", patches, kernel.astype(np.float64), optimize=True)
        out += bias.astype(np.float64)[:, None, None, None]
        if i < len(tensors) - 1:
            out = out / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (out + 0.044715 * out**3)))
    return out
