"""A lane's socket: whether there was anything to wait for."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys

import pytest
import zmq

from qdec.bus.wire import MAX_PARTS
from qdec.errors import ConfigError
from qdec.lane.router import Router
from qdec.security.access import LOCAL


def test_a_message_that_came_before_is_not_waited_for() -> None:
    """Its latency counts from when it may have come, not from when the lane looks again."""
    with zmq.Context() as context:
        router = Router(context, ("inproc://router",))
        read, write = os.pipe()
        try:
            assert router.wait([read], 0.01) == (True, [])
            os.write(write, b"x")
            assert router.wait([read], 5) == (True, [read])
            with context.socket(zmq.DEALER) as peer:
                peer.linger = 0
                peer.connect("inproc://router")
                peer.send(b"hello")
                assert router.wait([], 5)[1] == []
                # It is there now, so nothing is waited for.
                assert router.wait([read], 5) == (False, [])
                found = router.receive()
                assert found is not None
                assert found[1:] == ([b"hello"], LOCAL)
                assert router.receive() is None
        finally:
            router.close()
            os.close(read)
            os.close(write)


def test_a_message_of_many_parts_is_dropped_little_by_little() -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        router = Router(context, ("inproc://router",))
        peer.linger = 0
        peer.connect("inproc://router")
        for parts in ([b"x"] * 5000, [b"next"], [b"y"] * 5000, [b"last"]):
            peer.send_multipart(parts)
        found = router.receive()
        assert found is not None
        assert found[1] == [b"x"] * (MAX_PARTS + 1)
        looks = 1
        while not router.skip():
            looks += 1
        assert looks > 10
        for expected in ([b"next"], [b"y"] * (MAX_PARTS + 1), [b"last"]):
            found = router.receive()  # drops what is left by itself
            assert found is not None
            assert found[1] == expected
        assert router.skip()
        assert router.receive() is None
        router.close()


def test_without_a_key_nothing_is_bound_beyond_loopback() -> None:
    """Whatever became of the configuration's own check."""
    with zmq.Context() as context, pytest.raises(ConfigError, match="plain TCP"):
        Router(context, ("tcp://0.0.0.0:7600",))


def test_nobody_can_tell_the_ids_of_connections() -> None:
    """Who could would take the next one, at which libzmq aborts, or that of who has just left."""
    ids = []
    for _ in range(2):
        ctypes.CDLL(None).srand(1)  # as every process begins
        with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
            router = Router(context, ("inproc://router",))
            peer.linger = 0
            peer.connect("inproc://router")
            peer.send(b"hello")
            found = router.receive()
            assert found is not None
            ids.append(found[0])
            router.close()
    assert ids[0] != ids[1]


_CROWD = """
import time, zmq
from qdec.lane.router import Router
endpoint = "tcp://127.0.0.1:{port}"
router = Router(zmq.Context(), (endpoint,))
peer = zmq.Context().socket(zmq.DEALER)
peer.linger = 0
peer.connect(endpoint)
for _ in range(3000):
    try:
        peer.send(bytes(2000), zmq.NOBLOCK)
    except zmq.Again:
        time.sleep(0.001)
time.sleep(0.3)
peer.close(linger=0)
time.sleep(2.5)
while router.receive():
    pass
print("here")
"""


def test_a_peer_that_vanishes_behind_a_full_queue_takes_nobody_with_it() -> None:
    """libzmq aborts the process if a ZMTP heartbeat falls due on such a connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", _CROWD.format(port=port)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
