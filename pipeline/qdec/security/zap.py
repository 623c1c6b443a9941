"""The handshake's judge: answers libzmq's ZAP requests (RFC 27) from the lane's own loop.

libzmq's I/O thread asks about each connection over an inproc pair, and waits; the lane's thread
answers when it looks. Messages of connections that are let in carry their user with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import zmq
from zmq.utils import z85

from qdec.security.access import LOCAL, Access
from qdec.security.keys import fingerprint
from qdec.security.rarely import Rarely

# Domains of a lane's two kinds of endpoint.
TCP, IPC = b"tcp", b"ipc"
_ENDPOINT = "inproc://zeromq.zap.01"
_REFUSED = b"400"
# Answers per look: who floods a lane with connections waits for them, not the lane's streams.
_AT_ONCE = 32
log = logging.getLogger("qdec.security")


def judge(request: Sequence[bytes], access: Access) -> tuple[list[bytes], str]:
    """The answer to a ZAP request, and whom it refuses (empty if nobody).

    Args:
        request: version, request id, domain, address, routing id, mechanism, credentials.
        access: who is let in.
    """
    version, sequence = [*request, b"", b""][:2]

    def answer(status: bytes, words: bytes, user: str = "") -> list[bytes]:
        return [b"1.0", sequence, status, words, user.encode(), b""]

    if len(request) < 6 or version != b"1.0":
        return answer(b"500", b"not a request"), "a request that is none"
    domain, address, _, mechanism, *credentials = request[2:]
    if domain == IPC and mechanism == b"NULL":
        return answer(b"200", b"OK", LOCAL), ""
    where = address.decode("ascii", "replace")
    if domain != TCP or mechanism != b"CURVE" or [len(one) for one in credentials] != [32]:
        return answer(_REFUSED, b"CURVE only"), f"a peer without a key at {where}"
    public = z85.encode(credentials[0]).decode()
    if not access.knows(public):
        who = f"the unknown key {fingerprint(public)} at {where}"
        return answer(_REFUSED, b"unknown key"), who
    return answer(b"200", b"OK", public), ""


class ZapDoor:
    """Answers for every socket of a context. Bind it before the first of them."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        access: Callable[[], Access],
        on_refusal: Callable[[], None],
    ) -> None:
        """Judge by what `access` returns at the time; call `on_refusal` for each refusal."""
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ENDPOINT)
        self._access = access
        self._on_refusal = on_refusal
        self._rarely = Rarely(log)

    def fileno(self) -> int:
        """Readable when there may be requests."""
        return int(self._socket.fileno())

    def look(self) -> bool:
        """Answer what has been asked, up to a bound. True if there may be more."""
        for _ in range(_AT_ONCE):
            try:
                request = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            answer, refused = judge(request, self._access())
            if refused:
                self._on_refusal()
                self._rarely.warning("refused", f"{refused} was refused: it is not authorised")
            self._socket.send_multipart(answer)
        return True

    def close(self) -> None:
        """Let go; close the sockets that it answers for first."""
        # Closing alone leaves the name taken for a while.
        self._socket.unbind(_ENDPOINT)
        self._socket.close(linger=0)
