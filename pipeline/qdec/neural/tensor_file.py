"""Safetensors files: named arrays and a few words about them, read without trust.

The format cannot run anything, and its library checks that every array lies within the file. What
is added here are bounds on sizes before anything is read, and a hash over the arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qdec.errors import ModelError

Tensors = Mapping[str, NDArray[np.generic]]
MAX_FILE_BYTES = 64 << 20
_MAX_HEADER_BYTES = 1 << 20
_MAX_TENSORS = 4096


@dataclass(frozen=True, eq=False)
class TensorFile:
    """What a file holds.

    Attributes:
        metadata: text by key.
        tensors: arrays by name.
    """

    metadata: Mapping[str, str]
    tensors: Tensors


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says it holds, read without the arrays.

    Attributes:
        metadata: text by key.
        parameters: elements of all arrays.
        size: bytes of the file.
    """

    metadata: Mapping[str, str]
    parameters: int
    size: int


def read_header(path: Path) -> Header:
    """Read only the front of a file.

    Raises:
        ModelError: it cannot be read, is too large, or has no such front.
    """
    try:
        with path.open("rb") as file:
            size = _checked_size(path, os.fstat(file.fileno()).st_size)
            length = int.from_bytes(file.read(8), "little")
            if length > min(_MAX_HEADER_BYTES, size):
                raise ModelError(f"{path}: not a safetensors file, or its header is too long")
            text = file.read(length)
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from None
    metadata, sizes = _parse(path, text)
    return Header(metadata, sum(sizes), size)


def read_tensors(path: Path) -> TensorFile:
    """Read a file whole.

    Raises:
        ModelError: it cannot be read, is too large, or is no safetensors file.
    """
    import safetensors.numpy

    try:
        with path.open("rb") as file:
            size = _checked_size(path, os.fstat(file.fileno()).st_size)
            content = file.read(size)
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from None
    length = int.from_bytes(content[:8], "little")
    if length > _MAX_HEADER_BYTES:
        raise ModelError(f"{path}: not a safetensors file, or its header is too long")
    metadata, sizes = _parse(path, content[8 : 8 + length])
    # Arrays without elements may be of any number of dimensions and cost nothing to claim.
    if len(sizes) > _MAX_TENSORS:
        raise ModelError(f"{path}: {len(sizes):,} tensors; the limit is {_MAX_TENSORS}")
    try:
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: not a safetensors file that can be read: {error}") from None
    return TensorFile(metadata, tensors)


def write_tensors(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write a file in one step: a reader sees the old one, or the new one whole.

    Raises:
        ModelError: it cannot be written.
    """
    import safetensors.numpy

    content = safetensors.numpy.save(
        {name: np.ascontiguousarray(array) for name, array in tensors.items()}, dict(metadata)
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror or error}") from None
    write_whole(path, content)


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file in one step: a reader sees the old one, or the new one whole.

    Args:
        path: the file.
        content: of it.
        mode: its permissions.

    Raises:
        ModelError: it cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror or error}") from None


def tensors_sha256(tensors: Tensors) -> str:
    """SHA-256 (hex) of arrays with their names, types and shapes; metadata does not count."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        hashed.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def _checked_size(path: Path, size: int) -> int:
    if size > MAX_FILE_BYTES:
        raise ModelError(f"{path}: {size:,} bytes; the limit is {MAX_FILE_BYTES:,}")
    return size


def _parse(path: Path, text: bytes) -> tuple[dict[str, str], list[int]]:
    """Metadata, and the elements of each array, from a header's JSON."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: not a safetensors file: its header is not JSON") from None
    try:
        metadata = header.pop("__metadata__", None) or {}
        if not all(isinstance(v, str) for v in metadata.values()):
            raise TypeError
        sizes = []
        for entry in header.values():
            elements = 1
            for length in entry["shape"]:
                elements *= int(length)
            sizes.append(elements)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise ModelError(f"{path}: not a safetensors file: its header has another form") from None
    return dict(metadata), sizes
