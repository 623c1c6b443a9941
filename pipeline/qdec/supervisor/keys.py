"""The service's secrets: the key that authenticates resume cursors, and its CURVE key."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from qdec.config import Config
from qdec.errors import ConfigError, KeyFileError
from qdec.security.keys import owner_trouble, read_secret

_BYTES = 32


def _make(path: Path) -> None:
    """Write a new key; whoever comes first wins, and nobody sees half a key."""
    # A file of its own, whatever somebody may have put into the directory.
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    fresh = Path(name)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()


def key_path(state_dir: Path) -> Path:
    """Where the key lies."""
    return state_dir / "cursor.key"


def cursor_key(state_dir: Path) -> bytes:
    """Read the key, or make it (0600) the first time.

    Raises:
        ConfigError: the directory cannot be used, or the file is not a key of ours
            alone.
    """
    path = key_path(state_dir)
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _make(path)
        with path.open("rb") as file:
            status, key = os.fstat(file.fileno()), file.read(_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot keep the cursor key in {path}: {error.strerror}; "
            "set state_dir under [service] to a directory this user may write"
        ) from None
    if status.st_mode & 0o077 or owner_trouble(path, status):
        raise ConfigError(
            f"{path} is within others' reach, who could make cursors of their own: remove it to "
            "have a new one made, or chmod 600 and chown it if nobody can have read it"
        )
    if len(key) != _BYTES:
        raise ConfigError(
            f"{path} is not a cursor key (it has not {_BYTES} bytes); remove it to have a new "
            "one made (streams in progress will then have to start over)"
        )
    return key


def curve_secret(config: Config) -> str | None:
    """The secret key that TCP endpoints have, Z85; None where none speaks CURVE.

    Raises:
        ConfigError: its file cannot be used, or others can read it.
    """
    if not config.speaks_curve or config.security.server_key is None:
        return None
    try:
        return read_secret(config.security.server_key).secret
    except KeyFileError as error:
        raise ConfigError(f"server_key under [security]: {error}") from None
