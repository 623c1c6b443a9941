"""Which endpoints a service may bind: nothing unencrypted beyond this machine unless asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.bus.endpoints import check_endpoint, check_listen, is_ipv6, is_loopback
from qdec.errors import ConfigError

LOCAL = [
    "tcp://127.0.0.1:7600",
    "tcp://127.255.3.4:1",
    "tcp://localhost:65535",
    "tcp://[::1]:7600",
    "ipc:///run/qdec/lane0.ipc",
    "ipc:///" + "x" * 106,
]
REMOTE = [
    "tcp://0.0.0.0:7600",
    "tcp://*:7600",
    "tcp://10.0.0.7:7600",
    "tcp://decoder.example:7600",
    "tcp://[::]:7600",
    "tcp://[2001:db8::1]:7600",
    # None of these is taken for loopback because it looks or resolves like it.
    "tcp://127.0.0.1.example:7600",
    "tcp://127.1:7600",
    "tcp://localhost.example:7600",
    "tcp://[::ffff:10.0.0.1]:7600",
]
MALFORMED = [
    "",
    "tcp://",
    "tcp://127.0.0.1",
    "tcp://127.0.0.1:",
    "tcp://127.0.0.1:0",
    "tcp://127.0.0.1:65536",
    "tcp://127.0.0.1:76x",
    "tcp://127.0.0.1:-1",
    "tcp://127.0.0.1:7600/",
    "tcp://127.0.0.1:7600\n",
    " tcp://127.0.0.1:7600",
    "tcp://eth0;127.0.0.1:7600",
    "tcp://::1:7600",
    "TCP://127.0.0.1:7600",
    "udp://127.0.0.1:7600",
    "inproc://x",
    "ipc://relative.ipc",
    "ipc://@abstract",
    "ipc://",
    "ipc:///" + "x" * 107,
    "ipc:///" + "ä" * 60,  # 120 bytes
    "ipc:///run/\0x",
]


@pytest.mark.parametrize("endpoint", LOCAL)
def test_local(endpoint: str) -> None:
    assert check_endpoint(endpoint) == endpoint


@pytest.mark.parametrize("endpoint", REMOTE)
def test_remote(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="leave plain_tcp out and give keys"):
        check_endpoint(endpoint)
    assert check_endpoint(endpoint, secured=True) == endpoint


@pytest.mark.parametrize("endpoint", MALFORMED)
def test_malformed(endpoint: str) -> None:
    for allowed in (False, True):
        with pytest.raises(ConfigError, match="give "):
            check_endpoint(endpoint, secured=allowed)


@given(st.text(max_size=30))
def test_anything_else_is_refused_politely(text: str) -> None:
    for prefix in ("", "tcp://", "ipc://"):
        try:
            assert check_endpoint(prefix + text) == prefix + text
        except ConfigError as error:
            said = str(error)
        else:
            continue
        assert said


def test_loopback() -> None:
    assert is_loopback("[::1]")
    assert not is_loopback("")
    assert not is_loopback("*")


@pytest.mark.parametrize("endpoint", [e for e in LOCAL + REMOTE if e.startswith("tcp://")])
def test_ipv6_is_noticed(endpoint: str) -> None:
    assert is_ipv6(endpoint) == ("[" in endpoint)


def test_http_is_served_on_loopback_unless_asked_otherwise() -> None:
    assert check_listen("127.0.0.1:9600") == ("127.0.0.1", 9600)
    assert check_listen("[::1]:9600") == ("::1", 9600)
    assert check_listen("localhost:1") == ("127.0.0.1", 1)
    for listen in ("0.0.0.0:9600", "[::]:9600", "10.0.0.7:9600", "decoder.example:9600"):
        with pytest.raises(ConfigError, match="plain_http"):
            check_listen(listen)
        assert check_listen(listen, allow_remote=True)[1] == 9600
    for listen in ("", ":9600", "127.0.0.1", "127.0.0.1:0", "*:9600", "127.0.0.1:9600/x", "9600"):
        with pytest.raises(ConfigError, match="ADDRESS:PORT"):
            check_listen(listen, allow_remote=True)
