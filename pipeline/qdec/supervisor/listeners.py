"""Listening sockets, which outlive the lanes that accept on them.

A lane that dies, or hands its clients over to a successor, leaves the socket open: who connects
meanwhile waits in the kernel's queue and is not refused.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
from pathlib import Path

from qdec.bus.endpoints import is_tcp
from qdec.config import Config
from qdec.errors import ConfigError

_BACKLOG = 1024


class Listeners:
    """One socket for each endpoint of a configuration.

    Endpoints that name a network interface are left to libzmq, which knows how to bind those.
    """

    def __init__(self) -> None:
        """Listen nowhere yet."""
        self._sockets: dict[str, socket.socket] = {}

    def adopt(self, config: Config) -> None:
        """Listen where a configuration's lanes do, and nowhere else.

        Raises:
            ConfigError: an endpoint cannot be bound.
        """
        wanted = {one for lane in config.lane for one in lane.endpoints if _is_address(one)}
        for endpoint in wanted - self._sockets.keys():
            try:
                self._sockets[endpoint] = _listen(endpoint)
            except OSError as error:
                raise ConfigError(
                    f"cannot bind {endpoint}: {os.strerror(error.errno or 0)} "
                    "(is another qdec running? see 'qdec status')"
                ) from None
        for endpoint in self._sockets.keys() - wanted:
            self._close(endpoint)

    @property
    def fds(self) -> dict[str, int]:
        """The descriptor of each endpoint's socket."""
        return {endpoint: sock.fileno() for endpoint, sock in self._sockets.items()}

    def close(self) -> None:
        """Listen nowhere any more."""
        for endpoint in tuple(self._sockets):
            self._close(endpoint)

    def _close(self, endpoint: str) -> None:
        self._sockets.pop(endpoint).close()
        if not is_tcp(endpoint):
            with contextlib.suppress(OSError):
                Path(endpoint.removeprefix("ipc://")).unlink()


def _is_address(endpoint: str) -> bool:
    if not is_tcp(endpoint):
        return True
    host = _host(endpoint)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host in ("*", "localhost")
    return True


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def _listen(endpoint: str) -> socket.socket:
    if is_tcp(endpoint):
        host, port = _host(endpoint), int(endpoint.rpartition(":")[2])
        host = {"*": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address: tuple[str, int] | str = (host, port)
    else:
        address = endpoint.removeprefix("ipc://")
        _remove_stale(address)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    # Two lanes may hear of one connection; who comes second must not wait for the next.
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """Remove what a service that was killed has left; not the socket of one that runs."""
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        except OSError:
            return
