"""A lane's socket: bounded messages in, messages out that never wait, and who has left."""

from __future__ import annotations

import select
import time

import zmq
import zmq.utils.monitor

from qdec.bus.endpoints import is_ipv6
from qdec.bus.wire import MAX_PARTS
from qdec.errors import ConfigError

# A peer that does not read holds at most so many commits here; then its streams are freed.
_SEND_HWM = 4096
_RECEIVE_HWM = 256
_MAX_MESSAGE_BYTES = 17 << 20
_BIND_PATIENCE_S = 5.0
_LINGER_MS = 2000


class Router:
    """The ROUTER socket that clients' DEALERs talk to."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoints: tuple[str, ...]) -> None:
        """Bind.

        Raises:
            ConfigError: an endpoint cannot be bound.
        """
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, _SEND_HWM)
        self._socket.setsockopt(zmq.RCVHWM, _RECEIVE_HWM)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.BACKLOG, 1024)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._fd = self._socket.fileno()
        give_up = time.monotonic() + _BIND_PATIENCE_S
        for endpoint in endpoints:
            self._bind(endpoint, give_up)

    def _bind(self, endpoint: str, give_up: float) -> None:
        self._socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        while True:
            try:
                self._socket.bind(endpoint)
                return
            except zmq.ZMQError as error:
                # The lane this one replaces may not be entirely gone yet.
                if error.errno != zmq.EADDRINUSE or time.monotonic() > give_up:
                    raise ConfigError(
                        f"cannot bind {endpoint}: {error.strerror} "
                        "(is another qdec running? see 'qdec status')"
                    ) from None
                time.sleep(0.005)

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """The next message, (peer, its parts), or None. Parts beyond what is legal are dropped."""
        sock = self._socket
        try:
            peer = sock.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
        parts: list[bytes] = []
        while sock.getsockopt(zmq.RCVMORE):
            part = sock.recv()
            if len(parts) <= MAX_PARTS:
                parts.append(part)
        return peer, parts or [b""]

    def send(self, peer: bytes, parts: list[bytes]) -> bool:
        """Send now or never. False if the peer is gone, or has stopped reading."""
        try:
            self._socket.send_multipart([peer, *parts], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            return False
        return True

    def wait(self, others: list[int], timeout_s: float) -> tuple[bool, list[int]]:
        """Until a message is there, one of `others` is readable, or time is up (in true µs).

        ZeroMQ's descriptor tells of changes, not of states: what is there already is asked for
        first.

        Returns:
            Whether there was anything to wait for (else a message had come before), and which of
            the others are readable.
        """
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return False, []
        readable = select.select([self._fd, *others], [], [], timeout_s)[0]
        return True, [fd for fd in readable if fd != self._fd]

    def someone_left(self) -> bool:
        """Whether a peer has disconnected since this was last asked."""
        left = False
        while self._monitor.poll(0):
            zmq.utils.monitor.recv_monitor_message(self._monitor, zmq.NOBLOCK)
            left = True
        return left

    @property
    def monitor_fd(self) -> int:
        """Readable when `someone_left` has news."""
        return self._monitor.fileno()

    def close(self) -> None:
        """Let go; what was sent is still delivered, for a while."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=_LINGER_MS)
