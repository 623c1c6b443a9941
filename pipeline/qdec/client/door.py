"""Getting a stream opened: attempts, redirects, patience. One fresh socket per attempt."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import zmq

from qdec.bus.endpoints import is_ipv6, is_tcp
from qdec.bus.wire import (
    Error,
    FromLane,
    Open,
    OpenBody,
    Opened,
    Redirect,
    decode_from_lane,
    encode,
)
from qdec.client.handshake import Handshake
from qdec.client.options import CodeText, Patience
from qdec.errors import NotAdmitted, Refused, ServiceUnavailable, WireCode
from qdec.security.keys import ClientKeys

_MAX_REDIRECTS = 4
# Answers to an attempt to resume that may turn out otherwise a moment later.
_WORTH_RETRYING = {WireCode.DRAINING, WireCode.STREAM_BUSY, WireCode.UNKNOWN_STREAM}


@dataclass(slots=True)
class Door:
    """Where and as what a stream is opened.

    Attributes:
        homes: endpoints of lanes, of which one is tried after the other fails; redirects start from
            the first.
        body: the request, without cursor.
        code: a guest's code.
        patience: timeouts.
        context: makes the sockets.
        keys: for TCP; None for plain connections.
    """

    homes: tuple[str, ...]
    body: OpenBody
    code: CodeText | None
    patience: Patience
    context: zmq.Context[zmq.Socket[bytes]]
    keys: ClientKeys | None = None

    def open(self, cursor: bytes) -> tuple[zmq.Socket[bytes], Opened]:
        """Open the stream, or resume it from a cursor; retries until patience runs out.

        Returns:
            A connected DEALER and what the lane agreed to.

        Raises:
            Refused: the service said no.
            NotAdmitted: the keys do not fit.
            ServiceUnavailable: nobody agreed in time.
        """
        patience_s = self.patience.give_up_s if cursor else self.patience.open_s
        give_up = time.monotonic() + patience_s
        endpoint = self.homes[0]
        attempt = redirects = failures = 0
        refusal: Refused | None = None
        hung_up = ""
        problem = "no answer"
        while time.monotonic() < give_up:
            attempt += 1
            sock, answer, hung_up = self._ask(endpoint, cursor, attempt)
            match answer:
                case Opened():
                    return sock, answer
                case Redirect():
                    redirects += 1
                    endpoint = answer.endpoint
                case Error():
                    code = wire_code(answer.code)
                    refusal = Refused(code, answer.message, answer.detail)
                    # A lane that was away may take an attempt of our own up that we have given up.
                    ours = code is WireCode.STREAM_BUSY and failures > 0
                    if not (ours or (cursor and code in _WORTH_RETRYING)):
                        sock.close(linger=0)
                        raise refusal
                    redirects = 0
                    problem = f"{code.name}: {answer.message}"
                case _:
                    redirects = 0
                    failures += 1
                    endpoint = self.homes[failures % len(self.homes)]
            sock.close(linger=0)
            if redirects > _MAX_REDIRECTS:
                raise Refused(WireCode.INTERNAL, "lanes redirect to one another")
            if not isinstance(answer, Redirect):
                time.sleep(min(0.2, 0.01 * attempt))
        if hung_up:
            raise NotAdmitted(hung_up)
        if refusal is not None and not cursor:
            raise refusal
        raise ServiceUnavailable(
            f"no lane at {endpoint} opened stream '{self.body.stream}' within "
            f"{patience_s:g} s ({problem}): is the service running? (A large code of your own may "
            "still be compiling there; once it is compiled, opening is quick.)"
        )

    def _ask(
        self, endpoint: str, cursor: bytes, attempt: int
    ) -> tuple[zmq.Socket[bytes], FromLane | None, str]:
        """One attempt, on a fresh socket: an old one may replay old messages.

        Returns:
            The socket, what was answered, and else what is amiss with the handshake, if anything.
        """
        sock = self._socket(endpoint)
        body = self.body.model_copy(update={"cursor": cursor}) if cursor else self.body
        parts = [encode(Open(attempt, body, bool(cursor)))]
        if self.code is not None:
            parts.append(self.code.text.encode())
            if self.code.round_map is not None:
                parts.append(np.asarray(self.code.round_map, dtype="<u4").tobytes())
        deadline = time.monotonic() + self.patience.answer_s * min(attempt, 8)
        handshake = Handshake(sock, endpoint, self.keys)
        try:
            with handshake:
                connect(sock, endpoint)
                sock.send_multipart(parts)
                while (left := deadline - time.monotonic()) > 0:
                    if not handshake.wait(left):
                        break
                    message = decode_from_lane(sock.recv_multipart()[0])
                    if isinstance(message, Opened | Redirect) and message.request == attempt:
                        return sock, message, ""
                    # Reference 0: the lane could not read the request at all.
                    if isinstance(message, Error) and message.reference in (0, attempt):
                        return sock, message, ""
        except BaseException:
            sock.close(linger=0)
            raise
        return sock, None, handshake.trouble

    def _socket(self, endpoint: str) -> zmq.Socket[bytes]:
        sock: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.RECONNECT_IVL, 10)
        sock.setsockopt(zmq.RECONNECT_IVL_MAX, 100)
        sock.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
        sock.setsockopt(zmq.SNDHWM, 20_000)
        sock.setsockopt(zmq.RCVHWM, 0)
        if self.keys is not None and is_tcp(endpoint):
            self.keys.secure(sock)
        return sock


def connect(sock: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect a socket, which stays its owner's to close.

    Raises:
        ServiceUnavailable: no such endpoint can exist.
    """
    try:
        sock.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        sock.connect(endpoint)
    except zmq.ZMQError as error:
        raise ServiceUnavailable(
            f"'{endpoint}' is no endpoint ({error.strerror}): give tcp://ADDRESS:PORT or "
            "ipc:///absolute/path"
        ) from None


def wire_code(number: int) -> WireCode:
    """The code of a number; INTERNAL for one that is newer than this client."""
    try:
        return WireCode(number)
    except ValueError:
        return WireCode.INTERNAL
