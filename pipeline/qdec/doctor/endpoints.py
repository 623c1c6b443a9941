"""Whether an endpoint could be bound, found out without disturbing who has it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from qdec.errors import KeyFileError
from qdec.security.keys import ClientKeys, new_pair, read_public

TAKEN = os.strerror(errno.EADDRINUSE)
_ANSWER_S = 0.3


def trouble(endpoint: str) -> str:
    """Why a lane could not bind an endpoint, `TAKEN` if it is in use, "" if it could.

    Args:
        endpoint: as `check_endpoint` accepts it.
    """
    scheme, _, where = endpoint.partition("://")
    return _ipc_trouble(Path(where)) if scheme == "ipc" else _tcp_trouble(where)


def _tcp_trouble(where: str) -> str:
    # Bound and never listened on, so that no client of a service that is just restarting meets us.
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    interfaces = {name for _, name in socket.if_nameindex()}
    if host == "*" or host in interfaces:
        host = "0.0.0.0"
    elif host == "localhost":
        host = "127.0.0.1"
    try:
        # No name server is asked: a lane could not bind a name either.
        found = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        return "neither an address nor an interface of this machine"
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as libzmq does
        try:
            sock.bind(address)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _ipc_trouble(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return _folder_trouble(path.parent)
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISSOCK(mode):
        return "there is a file of that name, which the lane would delete"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_ANSWER_S)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            return _folder_trouble(path.parent)  # left by a process that is gone
        except OSError as error:
            return error.strerror or str(error)
    return TAKEN


def _folder_trouble(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no directory {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written by this user"
    return ""


def answered(endpoints: Iterable[str], seconds: float, server_key: Path | None = None) -> list[str]:
    """Those at which a qdec answers within a time for all of them together.

    Args:
        endpoints: where to ask.
        seconds: for all of them.
        server_key: the service's key, where TCP speaks CURVE. Who is told that it is not let in
            has heard from somebody who has that key, and that is all that is asked here.
    """
    from qdec.client import service_status
    from qdec.errors import NotAdmitted, Refused, ServiceUnavailable

    keys = None if server_key is None else _anybody(server_key)
    until = time.monotonic() + seconds
    found = []
    for endpoint in endpoints:
        left = min(_ANSWER_S, until - time.monotonic())
        if left <= 0:
            break
        try:
            service_status(endpoint.replace("//*:", "//127.0.0.1:"), left, keys=keys)
        except NotAdmitted as error:
            if not error.by_service:
                continue
        except Refused:
            pass
        except ServiceUnavailable:
            continue
        found.append(endpoint)
    return found


def _anybody(server_key: Path) -> ClientKeys | None:
    """Keys of nobody in particular; None where the service's own cannot be read."""
    try:
        return ClientKeys(new_pair("doctor"), read_public(server_key)[1])
    except KeyFileError:
        return None
