"""Plans on disk, so that they are built once.

A plan is code: TensorRT runs what it holds. So plans are kept where only this user can write (a
folder with mode 0700, files with 0600), and a folder or file that anybody else could have written
to is refused. A file is a header and a plan::

    8 bytes   QDECPLAN
    4 bytes   length of the header, little-endian
    header    JSON: key (what the plan was built from and for), sha256 and bytes of the plan
    plan

What is damaged, cut short, or for something else than its name says is none: it is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdec.errors import EngineError, ModelError
from qdec.neural.tensor_file import write_whole
from qdec.neural.tensorrt.api import Api
from qdec.neural.tensorrt.build import Capability, Recipe

MAGIC = b"QDECPLAN"
SUFFIX = ".plan"
MAX_HEADER_BYTES = 1 << 16
MAX_PLAN_BYTES = 1 << 30
_FORMAT = 1
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
Key = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache.

    Attributes:
        path: the file.
        key: what it says that it was built from and for; empty where it is damaged.
        size: bytes of it.
        problem: why it is not used; empty if nothing is known against it.
    """

    path: Path
    key: Key
    size: int
    problem: str = ""


def users_cache() -> Path:
    """Where this user keeps what can be made again."""
    base = os.environ.get("CACHE_DIRECTORY")  # set by systemd
    if base:
        return Path(base.split(":", 1)[0])
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "qdec"


def default_folder() -> Path:
    """Where plans are kept unless somebody says otherwise."""
    return users_cache() / "plans"


def key_of(recipe: Recipe, api: Api, gpu: str, capability: Capability) -> Key:
    """All that a plan depends on, as JSON has it."""
    return {
        "format": _FORMAT,
        "model": recipe.sha256,
        "size": list(recipe.size),
        "batches": list(recipe.batches),
        "precision": recipe.precision,
        "io": recipe.io,
        "gpu": gpu,
        "capability": list(capability),
        "tensorrt": [api.flavour, api.version],
    }


def path_of(folder: Path, key: Key) -> Path:
    """Where a key's plan is kept."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:32]}{SUFFIX}"


def write(folder: Path, key: Key, plan: bytes) -> Path:
    """Keep a plan, in one step.

    Raises:
        EngineError: the folder is not this user's alone, or cannot be written to.
    """
    if len(plan) > MAX_PLAN_BYTES:
        raise EngineError(f"a plan of {len(plan):,} bytes; the limit is {MAX_PLAN_BYTES:,}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"cannot make {folder}: {error.strerror or error}") from None
    _check_folder(folder)
    said = {"key": key, "sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)}
    header = json.dumps(said, sort_keys=True).encode()
    path = path_of(folder, key)
    try:
        write_whole(path, MAGIC + len(header).to_bytes(4, "little") + header + plan, mode=0o600)
    except ModelError as error:
        raise EngineError(str(error)) from None
    return path


def read(folder: Path, key: Key) -> tuple[bytes | None, str]:
    """The plan of a key, or None and why there is none ("" where there just is no file).

    Raises:
        EngineError: the folder is not this user's alone.
    """
    if not folder.is_dir():
        return None, ""
    _check_folder(folder)
    path = path_of(folder, key)
    if not path.exists() and not path.is_symlink():
        return None, ""
    try:
        said, plan = _read(path)
    except EngineError as error:
        return None, str(error)
    if said["key"] != key:
        return None, f"{path}: it is a plan for something else than its name says"
    return plan, ""


def entries(folder: Path) -> Iterator[Entry]:
    """All files of the cache, each checked whole.

    Raises:
        EngineError: the folder is not this user's alone.
    """
    if not folder.is_dir():
        return
    _check_folder(folder)
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            size = path.lstat().st_size
        except OSError:  # gone meanwhile
            continue
        try:
            said, _ = _read(path)
        except EngineError as error:
            yield Entry(path, {}, size, str(error))
            continue
        wrong = "" if path_of(folder, said["key"]) == path else "its name is that of another plan"
        yield Entry(path, said["key"], size, wrong)


def clear(folder: Path) -> int:
    """Remove all plans; returns how many there were.

    Raises:
        EngineError: the folder is not this user's alone, or one cannot be removed.
    """
    found = list(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if found:
        _check_folder(folder)
    for path in found:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise EngineError(f"cannot remove {path}: {error.strerror or error}") from None
    return len(found)


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and plan of a file that nobody else can have written to.

    Raises:
        EngineError: it is no such file, or it is damaged.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or not _own(about):
                raise EngineError(f"{path}: others can write to it, so it is not trusted")
            if about.st_size > MAX_PLAN_BYTES + MAX_HEADER_BYTES + 12:
                raise EngineError(f"{path}: {about.st_size:,} bytes are too many for a plan")
            front = file.read(12)
            length = int.from_bytes(front[8:], "little")
            if front[:8] != MAGIC or length > MAX_HEADER_BYTES:
                raise EngineError(f"{path}: not a plan")
            said = _header(path, file.read(length))
            if about.st_size != 12 + length + said["bytes"]:
                raise EngineError(f"{path}: the plan is cut short, or longer than it says")
            plan = file.read(said["bytes"])
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from None
    if hashlib.sha256(plan).hexdigest() != said["sha256"]:
        raise EngineError(f"{path}: the plan was damaged or changed")
    return said, plan


def _header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        said = json.loads(text)
        fits = isinstance(said["key"], dict) and isinstance(said["sha256"], str)
        if not fits or type(said["bytes"]) is not int or not 0 < said["bytes"] <= MAX_PLAN_BYTES:
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise EngineError(f"{path}: not a plan: its header has another form") from None
    return dict(said)


def _check_folder(folder: Path) -> None:
    about = folder.stat()
    if not _own(about):
        raise EngineError(
            f"plans are code, and others can write to {folder}: chown it to this user and "
            f"chmod 700 {folder}, or name another folder"
        )


def _own(about: os.stat_result) -> bool:
    return about.st_uid == os.geteuid() and not about.st_mode & _OTHERS_WRITE
