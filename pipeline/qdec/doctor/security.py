"""Set-ups that let in more than they need: named at start, by --check and by the doctor."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from qdec.bus.endpoints import check_listen, is_tcp
from qdec.config import Config
from qdec.doctor.check import Check
from qdec.doctor.machine import Machine
from qdec.errors import ConfigError
from qdec.findings import Finding, fail, ok, unknown, warn
from qdec.security.keys import secret_trouble


def insecure(config: Config) -> list[str]:
    """What about a configuration is less safe than it could be, and what to do about it."""
    return [*_plain_tcp(config), *_keys(config), *_folders(config), *_http(config)]


def _plain_tcp(config: Config) -> list[str]:
    plain = [one for lane in config.lane for one in lane.endpoints if is_tcp(one)]
    if not plain or config.speaks_curve:
        return []
    return [
        f"{', '.join(plain)}: plain TCP, open to every user of this machine: make keys (qdec keys "
        "new) and leave plain_tcp out, or use ipc:// in a folder of your own"
    ]


def _keys(config: Config) -> list[str]:
    if not config.speaks_curve:
        return []
    where = config.security.authorised
    if not config.keys:
        return [f"{where} has no [[key]] table: nobody can connect over TCP (qdec keys new NAME)"]
    found = []
    admins = [key.name for key in config.keys if key.admin]
    if len(admins) > 1:
        found.append(
            f"{where}: {', '.join(admins)} are all admin, and may open every stream: admin = true "
            "is for one key that no experiment uses"
        )
    free = [key.name for key in config.keys if not key.admin and key.guests and "*" in key.streams]
    if free:
        found.append(
            f"{where}: {', '.join(free)} may have codes of their own compiled under any name: "
            'narrow streams, such as streams = ["NAME.*"]'
        )
    return found


def _folders(config: Config) -> list[str]:
    """Sockets and keys in folders where anybody may write."""
    files = [
        *(
            Path(one.removeprefix("ipc://"))
            for lane in config.lane
            for one in lane.endpoints
            if one.startswith("ipc://")
        ),
        *(file for _, file in config.security if file is not None),
    ]
    folders = {file.parent for file in files}
    return [
        f"{folder} can be written by everybody, who could put files of theirs in the place of "
        "ours: use a folder of the service's own (mode 0750, and a group for who may connect)"
        for folder in sorted(folders)
        if _open_to_all(folder)
    ]


def _open_to_all(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False  # whoever needs it will say so


def _http(config: Config) -> list[str]:
    if config.gateway is None:
        return []
    try:
        check_listen(config.gateway.listen)
    except ConfigError:
        return [
            f"{config.gateway.listen}: metrics over plain HTTP, to everybody who reaches it: have "
            "a proxy with TLS in front of 127.0.0.1"
        ]
    return []


def judge_security(config: Config, trouble: str, warnings: Sequence[str]) -> Finding:
    """Whether the service's sockets are closed to those who do not belong.

    Args:
        config: of the service.
        trouble: why the service's key cannot be used; empty if it can.
        warnings: see `insecure`.
    """
    if trouble:
        return fail(
            trouble, "server_key under [security] with a file that this user alone can read"
        )
    if warnings:
        more = f" (and {len(warnings) - 1} more: qdec serve --check)" if len(warnings) > 1 else ""
        value, _, fix = warnings[0].rpartition(": ")
        return warn(value + more, fix)
    if config.speaks_curve:
        return ok(f"CURVE, {len(config.keys)} authorised key(s)")
    return ok("no TCP endpoint: as safe as the folders of the sockets")


def _security(machine: Machine) -> Finding:
    config = machine.usable_config
    if config is None:
        return unknown("the configuration is wrong")
    key = config.security.server_key
    trouble = secret_trouble(key) if config.speaks_curve and key is not None else ""
    return judge_security(config, trouble, insecure(config))


CHECKS = (Check("security", _security, with_config=True),)
