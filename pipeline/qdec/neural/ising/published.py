"""NVIDIA's published weights: which network a file says it holds, and whether it does.

The file is safetensors; its metadata has `model_id` (1 to 5), `quant_format` (fp16 or fp32),
`model_version`, `receptive_field`, and, layer by layer as JSON lists, `num_filters` and
`kernel_size`. The weights are licensed apart and not part of this package: bring your own file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from qdec.errors import ModelError
from qdec.neural.ising.network import PUBLISHED, Architecture, Weights, weights_of
from qdec.neural.tensor_file import TensorFile

KEYS = (
    "model_id",
    "quant_format",
    "model_version",
    "receptive_field",
    "num_filters",
    "kernel_size",
)
_TYPES = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}
_MAX_VERSION = 64


def is_published(metadata: Mapping[str, str]) -> bool:
    """Whether metadata is that of a published file, right or wrong."""
    return "model_id" in metadata and "family" not in metadata


def read_published(file: TensorFile) -> tuple[int, Weights]:
    """The number of the model that a published file holds, and its weights.

    Raises:
        ModelError: the metadata is not that of one of the five models, contradicts itself, or the
            tensors are not those of the model (see `weights_of`).
    """
    metadata = file.metadata
    if missing := [key for key in KEYS if key not in metadata]:
        raise ModelError(f"the metadata lacks {', '.join(missing)}: not a published Ising model")
    number = _whole(metadata, "model_id")
    if number not in PUBLISHED:
        raise ModelError(f"model_id {number}: the published models are 1 to {max(PUBLISHED)}")
    architecture = PUBLISHED[number]
    _agree(number, "receptive_field", _whole(metadata, "receptive_field"), architecture)
    _agree(number, "num_filters", _list(metadata, "num_filters"), architecture)
    _agree(number, "kernel_size", _list(metadata, "kernel_size"), architecture)
    version = metadata["model_version"]
    if len(version) > _MAX_VERSION or not version.isprintable():
        raise ModelError("model_version is no short line of text")
    form = metadata["quant_format"]
    if form not in _TYPES:
        raise ModelError(f"quant_format '{form[:40]}' is not served: use the fp16 file")
    for name, tensor in file.tensors.items():
        if tensor.dtype != _TYPES[form]:
            raise ModelError(f"the tensor '{name[:80]}' is {tensor.dtype} in an {form} file")
    return number, weights_of(architecture, file.tensors)


def _agree(number: int, key: str, said: object, architecture: Architecture) -> None:
    known: dict[str, object] = {
        "receptive_field": architecture.receptive_field,
        "num_filters": list(architecture.filters),
        "kernel_size": list(architecture.kernels),
    }
    if said != known[key]:
        raise ModelError(f"{key} is {said}, and model {number} has {known[key]}")


def _whole(metadata: Mapping[str, str], key: str) -> int:
    text = metadata[key]
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise ModelError(f"{key} is '{text[:40]}', not a number")
    return int(text)


def _list(metadata: Mapping[str, str], key: str) -> list[int]:
    text = metadata[key]
    try:
        found = json.loads(text) if len(text) < 1000 else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(type(one) is int for one in found):
        raise ModelError(f"{key} is '{text[:40]}', not a list of numbers, one for each layer")
    return found
