"""A lane's socket: bounded messages in, messages out that never wait, and who has left.

With a key, TCP endpoints speak CURVE, and who connects is judged by `Access`; every message then
carries its user. Without one there is no handshake to judge, and everybody is `LOCAL`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import select
import time
from collections.abc import Callable, Mapping

import zmq
import zmq.utils.monitor

from qdec.bus.endpoints import check_endpoint, is_ipv6, is_tcp
from qdec.bus.wire import MAX_PARTS
from qdec.errors import ConfigError
from qdec.security.access import LOCAL, Access
from qdec.security.rarely import Rarely
from qdec.security.zap import IPC, TCP, ZapDoor

log = logging.getLogger("qdec.lane")
# A peer that does not read holds at most so many commits here; then its streams are freed.
_SEND_HWM = 4096
_RECEIVE_HWM = 256
_MAX_MESSAGE_BYTES = 17 << 20
_BIND_PATIENCE_S = 5.0
_LINGER_MS = 2000
# A machine that is silent for some 5 s is gone.
_KEEPALIVE = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 2,
    zmq.TCP_KEEPALIVE_INTVL: 1,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 5000,
}
# A peer that connects and does not finish its handshake is let go after so long.
_HANDSHAKE_MS = 10_000
# Peers whose users are remembered.
_MAX_KNOWN = 4096
# Parts dropped together of a message that has more of them than any may.
_SKIPPED = 256
# Events of the monitor looked at together.
_NEWS = 256
# Failed before anybody was asked who it is: no CURVE, or with another service's key. Whom the ZAP
# door refuses is counted there.
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class Router:
    """The ROUTER socket that clients' DEALERs talk to."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoints: tuple[str, ...],
        secret: str | None = None,
        access: Callable[[], Access] = Access,
        on_refusal: Callable[[], None] = lambda: None,
        listening: Mapping[str, int] | None = None,
    ) -> None:
        """Bind.

        Args:
            context: of the lane.
            endpoints: what to bind.
            secret: the service's secret key, Z85; None for plain TCP.
            access: the policy at the time.
            on_refusal: called for every handshake that failed for want of a right key.
            listening: descriptors of sockets that listen already, by endpoint; they stay open.

        Raises:
            ConfigError: an endpoint cannot be bound, or is plain TCP beyond loopback.
        """
        for endpoint in filter(is_tcp, endpoints):
            check_endpoint(endpoint, secured=secret is not None)
        self._on_refusal = on_refusal
        self._listening = listening or {}
        self._shared: list[str] = []
        self._rarely = Rarely(log)
        self._surplus = False
        self._secured = secret is not None
        # Asking libzmq for a message's user takes longer than receiving it.
        self._users: dict[bytes, str] = {}
        self._door = ZapDoor(context, access, on_refusal) if self._secured else None
        _hide_ids()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, _SEND_HWM)
        self._socket.setsockopt(zmq.RCVHWM, _RECEIVE_HWM)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        # The kernel asks whether peers are there. libzmq's own heartbeats would take the process
        # down: one that falls due when a peer is gone whose messages nobody has read yet fails an
        # assertion (4.3.5, stream_engine_base.cpp).
        for option, value in _KEEPALIVE.items():
            self._socket.setsockopt(option, value)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.BACKLOG, 1024)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | _FAILED)
        self._fd = self._socket.fileno()
        give_up = time.monotonic() + _BIND_PATIENCE_S
        # An endpoint keeps the settings that the socket had when it was bound.
        local = [one for one in endpoints if not is_tcp(one)]
        if self._secured:
            # Nobody gets past a door that is not there.
            self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            self._socket.setsockopt(zmq.ZAP_DOMAIN, IPC)
        for endpoint in local:
            self._bind(endpoint, give_up)
        if secret is not None:
            self._socket.setsockopt(zmq.ZAP_DOMAIN, TCP)
            self._socket.curve_secretkey = secret.encode()
            self._socket.curve_server = True
        for endpoint in endpoints:
            if endpoint not in local:
                self._bind(endpoint, give_up)

    def _bind(self, endpoint: str, give_up: float) -> None:
        self._socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        listening = self._listening.get(endpoint)
        if listening is not None:
            # libzmq closes what it is given.
            self._socket.setsockopt(zmq.USE_FD, os.dup(listening))
            self._socket.bind(endpoint)
            self._socket.setsockopt(zmq.USE_FD, -1)
            self._shared.append(self._socket.get_string(zmq.LAST_ENDPOINT))
            return
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

    def receive(self) -> tuple[bytes, list[bytes], str] | None:
        """The next message, (peer, its parts, its user), or None.

        Parts beyond one more than is legal are dropped, by `skip`.
        """
        while not self.skip():
            pass
        sock = self._socket
        try:
            peer = sock.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
        parts: list[bytes] = []
        user = self._users.get(peer) if self._secured else LOCAL
        if user is None:
            user = self._introduced(peer, parts)
        while sock.getsockopt(zmq.RCVMORE):
            parts.append(sock.recv())
            if len(parts) > MAX_PARTS:
                self._surplus = True
                break
        return peer, parts or [b""], user

    def skip(self) -> bool:
        """Drop parts of a message that has too many, up to a bound. False if there may be more.

        A message may have millions, and whoever waits for the lane must not wait for all of them.
        """
        if self._surplus:
            for _ in range(_SKIPPED):
                if not self._socket.getsockopt(zmq.RCVMORE):
                    self._surplus = False
                    break
                self._socket.recv()
        return not self._surplus

    def _introduced(self, peer: bytes, parts: list[bytes]) -> str:
        """The user of a peer not known yet; takes the message's first part, which carries it."""
        if not self._socket.getsockopt(zmq.RCVMORE):
            return ""
        frame = self._socket.recv(copy=False)
        parts.append(frame.bytes)
        user = _property(frame, "User-Id")
        # An id of the client's own choice may be another's the next time; libzmq's own are not.
        if not _property(frame, "Identity"):
            if len(self._users) >= _MAX_KNOWN:
                self._users.clear()
            self._users[peer] = user
        return user

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
        for _ in range(_NEWS):
            if not self._monitor.poll(0):
                break
            news = zmq.utils.monitor.recv_monitor_message(self._monitor, zmq.NOBLOCK)
            if news["event"] == _FAILED:
                if self._secured:
                    self._on_refusal()
                    self._rarely.warning("handshake", _HANDSHAKE_FAILED)
            else:
                left = True
        if left:
            self._users.clear()  # ids of who has left are nobody's now
        return left

    def admit(self) -> bool:
        """Answer those who want to connect, up to a bound. True if there may be more."""
        return self._door is not None and self._door.look()

    @property
    def news_fds(self) -> list[int]:
        """Readable when `someone_left` or `admit` have something to do."""
        return [self._monitor.fileno(), *([] if self._door is None else [self._door.fileno()])]

    def close(self) -> None:
        """Let go; what was sent is still delivered, for a while."""
        # Who is told to go elsewhere may come back to the same address at once. Closing the socket
        # would accept for a little longer, and nobody would hear what is said there.
        for endpoint in self._shared:
            self._socket.unbind(endpoint)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=_LINGER_MS)
        if self._door is not None:
            self._door.close()


def _hide_ids() -> None:
    """Have the ids that libzmq gives to connections begin where nobody can tell.

    It takes the first from C's `rand`, never seeds it, and counts up from there. A client that
    chooses the id which comes next makes libzmq abort, and who chooses that of a client that has
    just left is taken for it.
    """
    ctypes.CDLL(None).srand(secrets.randbits(32))


_HANDSHAKE_FAILED = (
    "a peer's handshake failed: it does not speak CURVE, or has another service's key "
    "(qdec keys show prints ours)"
)


def _property(frame: zmq.Frame, name: str) -> str:
    """What libzmq knows of the connection that a frame came by; empty if nothing."""
    try:
        return str(frame.get(name) or "")
    except zmq.ZMQError:
        return ""
