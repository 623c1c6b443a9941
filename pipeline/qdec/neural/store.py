"""The models that are there: those that come with the package, and those imported.

Each is one safetensors file, ``NAME.safetensors``, whose metadata (text by key) has

- ``family``: what kind of network, which says who can load it;
- ``sha256``: of its tensors (`tensors_sha256`), checked whenever it is loaded;
- ``architecture``: its sizes, as JSON;
- and, of models trained here, ``noise``, ``distances``, ``rounds``, ``shots_seen``, ``seed`` and
  ``ler`` (a table, as JSON);
- of models that can run in 8 bits, ``int8``: which layers, and what that costs in likelihood.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qdec.errors import ModelError
from qdec.neural.ising.published import is_published, read_published
from qdec.neural.tensor_file import (
    Header,
    TensorFile,
    read_header,
    read_tensors,
    tensors_sha256,
    write_tensors,
)

Origin = Literal["shipped", "imported"]
SHIPPED = Path(__file__).parent / "models"
SUFFIX = ".safetensors"
ISING = "ising"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TOLD = ("noise", "distances", "rounds", "shots_seen", "seed", "model_version", "int8")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model's file says of itself, hash unchecked.

    Attributes:
        name: what configuration calls it.
        family: kind of network; empty where the file cannot be read.
        origin: whether it came with the package.
        path: the file.
        sha256: of its tensors, as the file says.
        parameters: weights and biases.
        size: bytes of the file.
        architecture: its sizes, as the family has them.
        ler: logical error rates measured with it, as the training left them.
        told: what else is known of it: noise, distances, rounds, shots seen, seed, version.
        problem: why it cannot be used; empty if nothing is known against it.
    """

    name: str
    family: str
    origin: Origin
    path: Path
    sha256: str = ""
    parameters: int = 0
    size: int = 0
    architecture: Any = None
    ler: Any = None
    told: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    def as_row(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "family": self.family,
            "origin": self.origin,
            "path": str(self.path),
            "sha256": self.sha256,
            "parameters": self.parameters,
            "bytes": self.size,
            "architecture": self.architecture,
            "ler": self.ler,
            **self.told,
            "problem": self.problem,
        }


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model that was loaded, its hash checked.

    Attributes:
        info: what it says of itself.
        file: its tensors and metadata.
    """

    info: ModelInfo
    file: TensorFile


def default_folder() -> Path:
    """Where imported models are kept unless somebody says otherwise."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "qdec" / "models"


def list_models(folder: Path | None = None) -> tuple[ModelInfo, ...]:
    """All models, the shipped ones first, by name. What cannot be read is listed with the reason.

    Args:
        folder: of imported models; the default one if None.
    """
    return (*_list(SHIPPED, "shipped"), *_list(folder or default_folder(), "imported"))


def find_model(name: str, folder: Path | None = None) -> ModelInfo:
    """The model of a name, or in a file: what has a slash or ends in ``.safetensors`` is a path.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    if "/" in name or name.endswith(SUFFIX):
        path = Path(name)
        info = _info(path, "imported")
    else:
        known = list_models(folder)
        found = [one for one in known if one.name == name]
        if not found:
            names = ", ".join(one.name for one in known) or "none"
            raise ModelError(f"there is no model '{name[:80]}'; `qdec model list` knows {names}")
        info = found[0]
    if info.problem:
        raise ModelError(info.problem)
    return info


def load_model(name: str, folder: Path | None = None) -> StoredModel:
    """Load a model and check its hash.

    Args:
        name: as for `find_model`.
        folder: of imported models; the default one if None.

    Raises:
        ModelError: there is none, or its tensors are not those that were hashed.
    """
    return load(find_model(name, folder))


def load(info: ModelInfo) -> StoredModel:
    """Load a model that was found, and check its hash.

    Raises:
        ModelError: it cannot be read, or its tensors are not those that were hashed.
    """
    file = read_tensors(info.path)
    found = tensors_sha256(file.tensors)
    if found != info.sha256 or file.metadata.get("sha256") != info.sha256:
        raise ModelError(
            f"{info.path}: the tensors' SHA-256 is {found[:16]}…, and the file says "
            f"{info.sha256[:16]}…: it was damaged or changed, so it is not used"
        )
    return StoredModel(info, file)


def import_model(
    source: Path,
    *,
    name: str | None = None,
    folder: Path | None = None,
    check: Callable[[StoredModel], object] = lambda stored: None,
) -> ModelInfo:
    """Check a file and keep it: a published Ising model, or one in this store's own format.

    Args:
        source: the file.
        name: what to call it; by default ``ising-N`` for published model N, else the file's name.
        folder: where to keep it; the default folder if None.
        check: raises ModelError where a model of the store's own format is not sound.

    Raises:
        ModelError: the file is neither, or not sound (see `read_published`, `load`), or another
            model has the name.
    """
    file = read_tensors(source)
    found = tensors_sha256(file.tensors)
    metadata = dict(file.metadata)
    if is_published(metadata):
        number, weights = read_published(file)
        sizes = {"filters": weights.architecture.filters, "kernels": weights.architecture.kernels}
        metadata |= {"family": ISING, "sha256": found, "architecture": json.dumps(sizes)}
        name = name or f"ising-{number}"
    elif metadata.get("sha256") != found:
        raise ModelError(
            f"{source}: neither a published Ising model (no model_id) nor a model of this "
            "program's with the hash of its tensors"
        )
    else:
        check(load(find_model(str(source.absolute()))))
    name = name or source.name.removesuffix(SUFFIX)
    if not _NAME.fullmatch(name):
        raise ModelError(f"'{name[:80]}' is no name for a model: use lower case, digits, . _ -")
    for other in list_models(folder):
        if other.name == name and (other.origin == "shipped" or other.sha256 != found):
            raise ModelError(f"there is another model '{name}' ({other.path}): give a --name")
    path = (folder or default_folder()) / f"{name}{SUFFIX}"
    _describe(name, "imported", source, Header(metadata, 0, 0))  # before anything is kept
    write_tensors(path, file.tensors, metadata)
    return find_model(name, folder)


def _list(folder: Path, origin: Origin) -> list[ModelInfo]:
    try:
        paths = sorted(folder.glob(f"*{SUFFIX}"))
    except OSError:
        return []
    return [_info(path, origin) for path in paths]


def _info(path: Path, origin: Origin) -> ModelInfo:
    name = path.name.removesuffix(SUFFIX)
    try:
        return _describe(name, origin, path, read_header(path))
    except ModelError as error:
        return ModelInfo(name, "", origin, path, problem=str(error))


def _describe(name: str, origin: Origin, path: Path, header: Header) -> ModelInfo:
    metadata = header.metadata
    if missing := [key for key in ("family", "sha256") if not metadata.get(key)]:
        raise ModelError(
            f"{path}: the metadata lacks {', '.join(missing)}: bring it in with `qdec model import`"
        )
    return ModelInfo(
        name,
        metadata["family"][:64],
        origin,
        path,
        metadata["sha256"][:64],
        header.parameters,
        header.size,
        _json(path, metadata, "architecture"),
        _json(path, metadata, "ler"),
        {key: metadata[key][:200] for key in _TOLD if key in metadata},
    )


def _json(path: Path, metadata: Mapping[str, str], key: str) -> Any:
    if key not in metadata:
        return None
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: '{key}' in the metadata is not JSON") from None
