"""Listening sockets that outlive who accepts on them, with real ROUTERs and DEALERs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from qdec.config import Config, LaneConfig
from qdec.errors import ConfigError
from qdec.lane.router import Router
from qdec.supervisor.listeners import Listeners


def config(*endpoints: str) -> Config:
    return Config(lane=tuple(LaneConfig(endpoints=(one,)) for one in endpoints))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(params=["tcp", "ipc", "ipv6"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    where = {"ipc": f"ipc://{tmp_path}/lane", "tcp": f"tcp://127.0.0.1:{free_port()}"}
    return where.get(request.param, f"tcp://[::1]:{free_port()}")


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


def ask(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, word: bytes) -> zmq.Socket[bytes]:
    sock: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    sock.setsockopt(zmq.IPV6, endpoint.startswith("tcp://["))
    sock.connect(endpoint)
    sock.send(word)
    return sock


def heard(router: Router) -> bytes:
    for _ in range(100):
        router.wait([], 0.05)
        if found := router.receive():
            peer, parts, _ = found
            assert router.send(peer, [b"yes", *parts])
            return parts[0]
    raise AssertionError("nothing came")


def test_who_connects_while_nobody_accepts_waits_and_is_served(
    endpoint: str, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    listeners = Listeners()
    listeners.adopt(config(endpoint))
    early = ask(context, endpoint, b"early")
    for word in (b"early", b"second", b"third"):  # each served by another router
        sock = early if word == b"early" else ask(context, endpoint, word)
        router = Router(context, (endpoint,), listening=listeners.fds)
        assert heard(router) == word
        assert sock.recv_multipart() == [b"yes", word]
        sock.close()
        router.close()
    listeners.close()
    if endpoint.startswith("ipc"):
        assert not Path(endpoint.removeprefix("ipc://")).exists()


def test_an_endpoint_in_use_is_refused_and_one_left_behind_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lane"
    for endpoint in (f"ipc://{path}", f"tcp://127.0.0.1:{free_port()}"):
        first, second = Listeners(), Listeners()
        first.adopt(config(endpoint))
        with pytest.raises(ConfigError, match="is another qdec running"):
            second.adopt(config(endpoint))
        first.close()
        second.adopt(config(endpoint))
        second.close()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    last = Listeners()
    last.adopt(config(f"ipc://{path}"))
    last.close()
    path.write_text("somebody's notes")
    with pytest.raises(ConfigError):
        last.adopt(config(f"ipc://{path}"))
    assert path.read_text() == "somebody's notes"


def test_endpoints_come_and_go_with_the_configuration(tmp_path: Path) -> None:
    a, b = f"ipc://{tmp_path}/a", f"ipc://{tmp_path}/b"
    listeners = Listeners()
    listeners.adopt(config(a))
    kept = listeners.fds[a]
    listeners.adopt(config(a, b))
    assert listeners.fds[a] == kept
    listeners.adopt(config(b))
    assert listeners.fds.keys() == {b}
    assert not (tmp_path / "a").exists()
    listeners.close()


def test_interfaces_are_left_to_libzmq() -> None:
    listeners = Listeners()
    listeners.adopt(config("tcp://lo:7600"))
    assert listeners.fds == {}
