"""``qdec keys``: make CURVE keys, look at them. Nothing here prints a secret."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qdec.errors import KeyFileError
from qdec.security.grants import Grant, read_grants
from qdec.security.keys import (
    PUBLIC,
    SECRET,
    fingerprint,
    key_folder,
    new_pair,
    read_public,
    read_secret,
    write_pair,
)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    file: str
    kind: str
    public: str = ""
    hash: str = ""
    problem: str = ""


def make(name: str, out: Path | None, *, as_json: bool) -> int:
    """Make a key and say what to do with it. Returns the exit status.

    Raises:
        KeyFileError: there is one of that name, or the folder cannot be used.
    """
    pair = new_pair(name)
    secret, public = write_pair(pair, out or key_folder())
    if as_json:
        told = {"name": name, "public": pair.public, "hash": fingerprint(pair.public)}
        print(json.dumps({**told, "secret_file": str(secret), "public_file": str(public)}))
        return 0
    print(f"secret: {secret} (mode 0600: it stays on this machine)")
    print(f"public: {public} (give it to whoever is to know this key)")
    print()
    print("For a client, the service's authorised keys (authorised under [security]) need:")
    print()
    print("[[key]]")
    print(f'name = "{name}"')
    print(f'public = "{pair.public}"')
    print('streams = ["*"]     # what it may open; narrow it')
    print('topics = ["status"] # what it may watch')
    print()
    print(f'For the service, its configuration: server_key = "{secret.absolute()}"')
    return 0


def show(file: Path, *, as_json: bool) -> int:
    """Show what of a key may be known. Returns the exit status.

    Raises:
        KeyFileError: the file cannot be used.
    """
    name, public = read_public(file)
    if as_json:
        print(json.dumps({"name": name, "public": public, "hash": fingerprint(public)}))
    else:
        print(f"name:   {name}\npublic: {public}\nhash:   {fingerprint(public)}")
    return 0


def list_keys(where: Path | None, *, as_json: bool) -> int:
    """List keys in a folder, or in a file of authorised ones. Returns the exit status.

    Raises:
        ConfigError: it is a file, and not one of authorised keys.
    """
    where = where or key_folder()
    if where.is_file():
        grants = read_grants(where)
        if as_json:
            print(json.dumps([{**g.model_dump(), "hash": fingerprint(g.public)} for g in grants]))
        else:
            Console().print(_grants(grants))
        return 0
    files = [*where.glob(f"*{SECRET}"), *where.glob(f"*{PUBLIC}")] if where.is_dir() else []
    rows = [_look(file) for file in sorted(files)]
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
    elif rows:
        Console().print(_table(rows))
    else:
        print(f"no keys in {where}: qdec keys new NAME makes one")
    return int(any(row.problem for row in rows))


def _look(file: Path) -> _Row:
    kind = file.suffix.removeprefix(".")
    try:
        if file.suffix == SECRET:
            pair = read_secret(file)
            name, public = pair.name, pair.public
        else:
            name, public = read_public(file)
    except KeyFileError as error:
        return _Row(file.stem, str(file), kind, problem=str(error))
    return _Row(name, str(file), kind, public, fingerprint(public))


def _table(rows: list[_Row]) -> Table:
    table = Table("key", "half", "public", "hash")
    for row in rows:
        told = f"[red]{escape(row.problem)}[/red]" if row.problem else escape(row.public)
        table.add_row(escape(row.name), row.kind, told, row.hash)
    return table


def _grants(grants: tuple[Grant, ...]) -> Table:
    table = Table("key", "hash", "streams", "topics", "guests", "admin", "limits")
    for one in grants:
        limits = {
            "messages/s": one.messages_per_second,
            "bytes/s": one.bytes_per_second,
            "bytes/message": one.message_bytes,
            "streams": one.max_streams,
        }
        table.add_row(
            one.name,
            fingerprint(one.public),
            escape(" ".join(one.streams)),
            escape(" ".join(one.topics)),
            "yes" if one.guests or one.admin else "",
            "yes" if one.admin else "",
            ", ".join(f"{value} {unit}" for unit, value in limits.items() if value is not None),
        )
    return table
