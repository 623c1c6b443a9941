"""What systemd is told, word by word and datagram by datagram."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator

import pytest

from qdec.supervisor.telling import State, Teller, describe


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where notifications arrive."""
    with (
        tempfile.TemporaryDirectory(prefix="qdec-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        sock.bind(f"{folder}/notify")
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        yield sock


def heard(systemd: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(systemd.recv(4096).decode())
        except BlockingIOError:
            return found


@pytest.mark.parametrize(
    ("state", "more", "words"),
    [
        (State(1, 1), {}, "serving 0 streams on 1 lane"),
        (State(2, 2, 3), {}, "serving 3 streams on 2 lanes"),
        (State(2, 2, 1, True, 7, True, 2), {}, "serving 1 stream on 2 lanes"),
        (
            State(2, 1, 3, accelerator=False, accelerator_restarts=2),
            {"worry": "lane 0 does not answer"},
            "serving 3 streams on 1 lane; accelerator restarting (2nd time); "
            "degraded: 1 lane not served, lane 0 does not answer",
        ),
        (
            State(1, 1, 1, gateway=False, gateway_restarts=11),
            {"reload": "the last reload was refused"},
            "serving 1 stream on 1 lane; gateway restarting (11th time); "
            "the last reload was refused",
        ),
        (State(1, 1, gateway=False), {}, "serving 0 streams on 1 lane; no gateway yet"),
        (
            State(3, 1, accelerator=False),
            {"started": False},
            "warming up: 1 of 3 lanes ready; waiting for the accelerator",
        ),
        (State(3, 3, accelerator=None), {"started": False}, "warming up: 3 of 3 lanes ready"),
    ],
)
def test_words(state: State, more: dict[str, str | bool], words: str) -> None:
    assert describe(state, **more) == words


@pytest.mark.parametrize(
    ("n", "words"),
    [(1, "1st"), (3, "3rd"), (4, "4th"), (12, "12th"), (13, "13th"), (21, "21st"), (112, "112th")],
)
def test_ordinals(n: int, words: str) -> None:
    state = State(1, 1, accelerator=False, accelerator_restarts=n)
    assert f"({words} time)" in describe(state)


def test_words_are_told_when_they_are_new_and_once_a_second(systemd: socket.socket) -> None:
    teller = Teller(600)
    for tenth in range(30):
        teller.words(tenth / 10, "a" if tenth < 5 else f"b{tenth}" if tenth < 15 else "c")
    assert heard(systemd) == ["STATUS=a", "STATUS=b10", "STATUS=c"]


def test_pings_come_twice_as_often_as_they_must(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = Teller(600)
    teller.ping(0)
    assert heard(systemd) == []  # nobody asked for them
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    for second in range(20):
        teller.ping(float(second))
    assert heard(systemd) == ["WATCHDOG=1"] * 4


def test_a_slow_start_asks_for_time_but_not_for_ever(systemd: socket.socket) -> None:
    teller = Teller(start_s=12)
    for second in range(100):
        teller.warming(float(second))
    assert heard(systemd) == ["EXTEND_TIMEOUT_USEC=60000000"] * 3


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Teller(600).words(0, "x")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/socket")
    Teller(600).words(0, "x")
