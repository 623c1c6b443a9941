"""CURVE keys in files: a secret one that only its owner can read, and a public one beside it.

Both are TOML. ``NAME.secret`` has the pair and mode 0600; ``NAME.public`` has the public half. Keys
are 32 bytes in Z85 (40 characters, ZeroMQ RFC 32). A secret is never part of a message, of a `repr`
or of an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from qdec.errors import KeyFileError

SECRET, PUBLIC = ".secret", ".public"
KEY_NAME = r"[A-Za-z0-9_.\-]{1,64}"
_Z85 = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_MAX_BYTES = 4096
# Names of the environment for paths that a client was not given.
KEY_ENV, SERVER_KEY_ENV = "QDEC_KEY", "QDEC_SERVER_KEY"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A party's own key.

    Attributes:
        name: what it is called.
        public: Z85.
        secret: Z85; in no `repr`.
    """

    name: str
    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs to reach a service over CURVE.

    Attributes:
        own: who it is.
        server: the service's public key, Z85: nobody else is talked to.
    """

    own: KeyPair
    server: str

    def secure(self, sock: zmq.Socket[bytes]) -> None:
        """Have a socket use CURVE for the connections that it makes from now on."""
        sock.curve_serverkey = self.server.encode()
        sock.curve_publickey = self.own.public.encode()
        sock.curve_secretkey = self.own.secret.encode()


def key_folder() -> Path:
    """Where keys lie unless something else is said."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "qdec" / "keys"


def is_public_key(text: str) -> bool:
    """Whether a text is 32 bytes in Z85."""
    if not _Z85.fullmatch(text):
        return False
    try:
        return len(z85.decode(text)) == 32
    except Exception:  # it has no one type for what it cannot decode
        return False


def fingerprint(public: str) -> str:
    """What a log says of a public key that has no name: 12 hex digits of its BLAKE2b."""
    return hashlib.blake2b(public.encode(), digest_size=6).hexdigest()


def new_pair(name: str) -> KeyPair:
    """A fresh pair from libsodium.

    Raises:
        KeyFileError: the name could not be a file's, or this libzmq was built without CURVE.
    """
    if not re.fullmatch(KEY_NAME, name) or name.startswith("."):
        raise KeyFileError(
            f"'{name}' is no name for a key: use letters, digits, '_', '-' and '.', at most 64"
        )
    if not zmq.has("curve"):
        raise KeyFileError("this libzmq was built without CURVE: install pyzmq from PyPI")
    public, secret = zmq.curve_keypair()
    return KeyPair(name, public.decode(), secret.decode())


def write_pair(pair: KeyPair, folder: Path) -> tuple[Path, Path]:
    """Write both files; neither may be there yet.

    Returns:
        The paths of the secret and of the public file.

    Raises:
        KeyFileError: one is there already, or the folder cannot be used.
    """
    secret, public = folder / f"{pair.name}{SECRET}", folder / f"{pair.name}{PUBLIC}"
    for path in (secret, public):
        if path.exists():
            raise KeyFileError(
                f"{path} is there already, and whoever was given it would be locked out: choose "
                "another name, or move it away first"
            )
    shared = f'name = "{pair.name}"\npublic = "{pair.public}"\n'
    warning = "# Secret: whoever can read this file is let in under its name.\n"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(secret, f'{warning}{shared}secret = "{pair.secret}"\n', 0o600)
        try:
            _write(public, shared, 0o644)
        except OSError:
            secret.unlink()
            raise
    except OSError as error:
        raise KeyFileError(f"cannot write keys into {folder}: {error.strerror}") from None
    return secret, public


def _write(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def read_secret(path: Path) -> KeyPair:
    """The pair in a secret file.

    Raises:
        KeyFileError: it cannot be read, others can read it, or it is not one.
    """
    found = _read(path)
    secret = found.get("secret")
    if not isinstance(secret, str):
        raise KeyFileError(
            f"{path} has no secret key in it: give the {SECRET} file, not the {PUBLIC} one "
            "(qdec keys new makes both)"
        )
    public = _public_in(path, found)
    with contextlib.suppress(zmq.ZMQError, ValueError):
        if zmq.curve_public(secret.encode()).decode() == public:
            return KeyPair(_name_in(path, found), public, secret)
    raise KeyFileError(f"{path}: the secret key and the public key in it are no pair")


def read_public(path: Path) -> tuple[str, str]:
    """(name, public key) of a public file; of a secret one, too.

    Raises:
        KeyFileError: it cannot be read, or is neither.
    """
    found = _read(path)
    return _name_in(path, found), _public_in(path, found)


def secret_trouble(path: Path) -> str:
    """Why a secret file must not be used, with what to do about it; empty if it may be."""
    try:
        found = path.stat()
    except OSError as error:
        return f"cannot read the key {path}: {error.strerror}"
    return _trouble(path, found)


def owner_trouble(path: Path, found: os.stat_result) -> str:
    """Why a file's owner could put another in its place; empty for this user and root."""
    if found.st_uid in (0, os.geteuid()):
        return ""
    return (
        f"{path} belongs to another user (uid {found.st_uid}), who could write keys of theirs "
        f"into it: chown it to root, or to whoever runs this (uid {os.geteuid()})"
    )


def _trouble(path: Path, found: os.stat_result) -> str:
    mode = found.st_mode
    if not stat.S_ISREG(mode):
        return f"{path} is no file with a key"
    if trouble := owner_trouble(path, found):
        return trouble
    if mode & 0o077:
        return (
            f"{path} has mode {stat.S_IMODE(mode):04o}, so others on this machine could read or "
            f"replace the secret key: chmod 600 {path} (and make a new key if somebody may have "
            "read it)"
        )
    return ""


def _read(path: Path) -> dict[str, Any]:
    """What a key file says; nothing if it has a secret that others can read."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(_MAX_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise KeyFileError(
            f"cannot read the key {path}: {error.strerror} (qdec keys new NAME makes one)"
        ) from None
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError):  # whose words may have the secret in them
        raise KeyFileError(f"{path} is no key file: qdec keys new NAME makes one") from None
    if "secret" in found and (trouble := _trouble(path, status)):
        raise KeyFileError(trouble)
    return found


def _name_in(path: Path, found: dict[str, Any]) -> str:
    name = found.get("name")
    return name if isinstance(name, str) and re.fullmatch(KEY_NAME, name) else path.stem


def _public_in(path: Path, found: dict[str, Any]) -> str:
    public = found.get("public")
    if not isinstance(public, str) or not is_public_key(public):
        raise KeyFileError(f"{path} has no public key in it: qdec keys new NAME makes one")
    return public


def client_keys(key: Path | None = None, server_key: Path | None = None) -> ClientKeys | None:
    """The keys in these files; in those that the environment names where they are not given.

    Args:
        key: the client's secret file; ``QDEC_KEY`` otherwise.
        server_key: the service's public file; ``QDEC_SERVER_KEY`` otherwise.

    Returns:
        None where neither is named: plain connections.

    Raises:
        KeyFileError: only one of them is named, or one cannot be used.
    """
    mine = key or _from_environment(KEY_ENV)
    theirs = server_key or _from_environment(SERVER_KEY_ENV)
    if mine is None and theirs is None:
        return None
    if mine is None or theirs is None:
        missing = "--key FILE (or QDEC_KEY), your secret key"
        if theirs is None:
            missing = "--server-key FILE (or QDEC_SERVER_KEY), the service's public key"
        raise KeyFileError(f"CURVE takes two keys, and one is missing: {missing}")
    return ClientKeys(read_secret(mine), read_public(theirs)[1])


def forget_environment() -> None:
    """Have this process, and what it starts, use no keys that its environment names."""
    for name in (KEY_ENV, SERVER_KEY_ENV):
        os.environ.pop(name, None)


def _from_environment(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None
