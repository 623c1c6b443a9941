from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from qdec.child import Child
from qdec.control import Channel, ChannelClosed


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    a, b = socket.socketpair()
    one, other = Channel(a), Channel(b)
    yield one, other
    one.close()
    other.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.send("warm", config={"a": "line\nbreak"})
    one.send("serve", lane=3)
    assert other.receive() == [
        {"op": "warm", "config": {"a": "line\nbreak"}},
        {"op": "serve", "lane": 3},
    ]
    assert other.receive() == []


def test_a_message_in_pieces_is_one_message(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one._sock.sendall(b'{"op": "be')
    assert other.receive() == []
    one._sock.sendall(b'at"}\n{"op"')
    assert other.receive() == [{"op": "beat"}]


def test_sending_to_one_who_does_not_read_never_blocks(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    big = "x" * (1 << 20)
    for number in range(4):
        one.send("configure", number=number, config=big)
    assert one.unsent
    got = []
    while len(got) < 4:
        got += other.receive()
        one.flush()
    assert [m["number"] for m in got] == [0, 1, 2, 3]
    assert not one.unsent


def test_one_who_never_reads_counts_as_gone(ends: tuple[Channel, Channel]) -> None:
    one, _ = ends
    one.send("configure", config="x" * (15 << 20))
    with pytest.raises(ChannelClosed, match="does not read"):
        one.send("configure", config="x" * (2 << 20))


def test_the_other_side_going_is_noticed(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    other.close()
    with pytest.raises(ChannelClosed):
        one.receive()
    with pytest.raises(ChannelClosed):
        one.send("beat")


def test_a_child_keeps_orders_that_arrive_together(ends: tuple[Channel, Channel]) -> None:
    """A spare was told to drain while it still waited to be told to warm up, and never left."""
    one, other = ends
    child = Child(other, arena_fd=-1)
    one.send("warm", key="00")
    one.send("configure", config={})
    one.send("serve", lane=1)
    one.send("drain", seconds=1)
    assert child.wait_for("warm") == {"op": "warm", "key": "00"}
    assert child.wait_for("serve") == {"op": "serve", "lane": 1}
    assert child.wait_for("serve") is None  # drain


def test_a_full_disk_does_not_change_how_a_child_ends() -> None:
    """Its last words cannot be written; its status is what the supervisor goes by."""
    ours, theirs = socket.socketpair()
    program = (
        "import os, sys; from qdec.child import main; main(lambda child: print('last words') or 7)"
    )
    fd = theirs.fileno()
    options = [f"--control-fd={fd}", "--arena-fd=0", f"--parent={os.getpid()}"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, *options],
            stdout=full,
            stderr=full,
            pass_fds=[fd],
            timeout=60,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    ours.close()
    theirs.close()
    assert done.returncode == 7
