"""Which endpoints may be bound or connected to, and where HTTP may be served."""

from __future__ import annotations

import ipaddress
import re

from qdec.errors import ConfigError

_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.\-*]+):(?P<port>[0-9]{1,5})")
_MAX_IPC_PATH = 107  # sockaddr_un


def check_endpoint(endpoint: str, *, secured: bool = False) -> str:
    """Return the endpoint if a service may bind it.

    Args:
        endpoint: ``tcp://ADDRESS:PORT`` or ``ipc:///absolute/path``.
        secured: TCP speaks CURVE there, so it may be beyond loopback.

    Raises:
        ConfigError: it is malformed, or plain TCP beyond loopback.
    """
    if endpoint.startswith("ipc://"):
        path = endpoint.removeprefix("ipc://")
        too_long = len(path.encode("utf-8", "surrogateescape")) > _MAX_IPC_PATH
        if not path.startswith("/") or not path.isprintable() or too_long:
            raise ConfigError(
                f"endpoint '{endpoint}': give an absolute path of at most {_MAX_IPC_PATH} bytes"
            )
        return endpoint
    match = _TCP.fullmatch(endpoint)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ConfigError(f"endpoint '{endpoint}': give tcp://ADDRESS:PORT or ipc:///absolute/path")
    if not (secured or is_loopback(match["host"])):
        raise ConfigError(
            f"endpoint '{endpoint}' is reachable from other machines, and plain TCP is neither "
            "encrypted nor authenticated: bind 127.0.0.1, or leave plain_tcp out and give keys "
            "under [security] (qdec keys new --help)"
        )
    return endpoint


def is_tcp(endpoint: str) -> bool:
    """Whether an endpoint is one that CURVE is for; ``ipc://`` has its file's permissions."""
    return endpoint.startswith("tcp://")


def check_listen(listen: str, *, allow_remote: bool = False) -> tuple[str, int]:
    """(host, port) of an address to serve HTTP on.

    Args:
        listen: ``ADDRESS:PORT``.
        allow_remote: accept addresses beyond loopback.

    Raises:
        ConfigError: it is malformed, or beyond loopback and that was not asked for.
    """
    match = _TCP.fullmatch(f"tcp://{listen}")
    if match is None or "*" in match["host"] or not 0 < int(match["port"]) < 65536:
        raise ConfigError(f"'{listen}' is no address to listen on: give ADDRESS:PORT")
    if not (allow_remote or is_loopback(match["host"])):
        raise ConfigError(
            f"'{listen}' is reachable from other machines, and plain HTTP is neither encrypted nor "
            "authenticated: give 127.0.0.1, or set plain_http = true beside it if whoever reaches "
            "it may know how the service is"
        )
    # As for lanes, wherever a name server or /etc/hosts may say that localhost is.
    host = "127.0.0.1" if match["host"] == "localhost" else match["host"].strip("[]")
    return host, int(match["port"])


def is_ipv6(endpoint: str) -> bool:
    """Whether a socket needs ZMQ_IPV6 for this endpoint."""
    return endpoint.startswith("tcp://[")


def is_loopback(host: str) -> bool:
    """Whether a host part names this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
