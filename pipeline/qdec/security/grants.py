"""What a key is allowed, and the file that says so.

::

    [[key]]
    name = "fridge1"
    public = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
    streams = ["patch*"]
    topics = ["status"]
    messages_per_second = 20000
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from qdec.errors import ConfigError
from qdec.security.keys import KEY_NAME, is_public_key, owner_trouble

MAX_KEYS = 4096
_MAX_BYTES = 4 << 20
_GLOB = r"[A-Za-z0-9_.\-*?\[\]!]{1,64}"
_Globs = Annotated[
    tuple[Annotated[str, Field(pattern=f"^{_GLOB}$")], ...], Field(strict=False, max_length=256)
]
_Count = Annotated[int, Field(ge=1, lt=1 << 53)]


class Grant(BaseModel):
    """One authorised key. What it is not given, it may not do.

    Attributes:
        name: what logs call it.
        public: Z85.
        streams: globs of the streams that it may open.
        topics: globs of what it may watch; ``status`` is what `qdec status` shows.
        guests: whether it may bring a code of its own, under a name that `streams` has.
        admin: whether it may do everything.
        messages_per_second, bytes_per_second: what it may send to one lane, on all of its
            connections together; a second's worth may come at once. No limit if left out.
        message_bytes: of its largest message.
        max_streams: that it may have open on one lane.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=f"^{KEY_NAME}$")]
    public: str
    streams: _Globs = ()
    topics: _Globs = ()
    guests: bool = False
    admin: bool = False
    messages_per_second: _Count | None = None
    bytes_per_second: _Count | None = None
    message_bytes: _Count | None = None
    max_streams: _Count | None = None

    @field_validator("public")
    @classmethod
    def _public(cls, value: str) -> str:
        if not is_public_key(value):
            raise ValueError("give the 40 characters that `qdec keys show` prints as public")
        return value


def parse_grants(text: str, path: Path) -> tuple[Grant, ...]:
    """The keys in a file's text.

    Raises:
        ConfigError: it is not such a file; the message has the line of the key at fault.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of its own, or of numbers and depth
        raise ConfigError(f"not TOML: {error}", path=str(path)) from None
    tables = raw.get("key", [])
    if set(raw) - {"key"} or not isinstance(tables, list):
        raise ConfigError(
            "the file of authorised keys has [[key]] tables and nothing else", path=str(path)
        )
    if len(tables) > MAX_KEYS:
        raise ConfigError(f"at most {MAX_KEYS} keys, not {len(tables)}", path=str(path))
    lines = [
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if re.match(r"\s*\[\[\s*key\s*\]\]", line)
    ]
    grants: list[Grant] = []
    for index, table in enumerate(tables):
        line = lines[index] if index < len(lines) else None
        grant = _grant(table, path, line)
        for name in ("name", "public"):
            if any(getattr(grant, name) == getattr(other, name) for other in grants):
                raise ConfigError(
                    f"key '{grant.name}': another [[key]] has the same {name}: give each its own",
                    path=str(path),
                    line=line,
                )
        grants.append(grant)
    return tuple(grants)


def _grant(table: Any, path: Path, line: int | None) -> Grant:
    try:
        return Grant.model_validate(table)
    except ValidationError as error:
        # Without the input: somebody may have written a secret key there.
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "key"
        words = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            words = f"there is no such setting; there are {', '.join(Grant.model_fields)}"
        raise ConfigError(f"{where}: {words}", path=str(path), line=line) from None


def read_grants(path: Path) -> tuple[Grant, ...]:
    """The keys in a file.

    Raises:
        ConfigError: it cannot be read, others own it or may write to it, or `parse_grants` refuses
            it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o022:
                raise ConfigError(
                    f"others may write to it, and could let themselves in: chmod go-w {path}",
                    path=str(path),
                )
            if trouble := owner_trouble(path, status):
                raise ConfigError(trouble, path=str(path))
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ConfigError(f"it has more than {_MAX_BYTES} bytes", path=str(path))
        return parse_grants(text.decode("utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the authorised keys: {error}; give each client a [[key]] table there "
            "(qdec keys new prints one)",
            path=str(path),
        ) from None
