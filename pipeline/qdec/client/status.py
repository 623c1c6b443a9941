"""Ask a lane how it is."""

from __future__ import annotations

from typing import Any

import zmq

from qdec.bus.endpoints import is_tcp
from qdec.bus.wire import Error, Status, StatusReply, decode_from_lane, encode
from qdec.client.door import connect, wire_code
from qdec.client.handshake import Handshake
from qdec.errors import NotAdmitted, Refused, ServiceUnavailable
from qdec.security.keys import ClientKeys, client_keys


def service_status(
    endpoint: str, timeout_s: float = 2.0, *, keys: ClientKeys | None = None
) -> dict[str, Any]:
    """Counters and streams of the lane at an endpoint.

    Args:
        endpoint: of the lane.
        timeout_s: for the answer.
        keys: for TCP; those that ``QDEC_KEY`` and ``QDEC_SERVER_KEY`` name if None.

    Raises:
        Refused: our key has no right to know.
        NotAdmitted: the keys do not fit.
        ServiceUnavailable: no answer in time.
    """
    keys = keys or client_keys()
    sock: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.RECONNECT_IVL, 20)
    handshake = Handshake(sock, endpoint, keys)
    try:
        if keys is not None and is_tcp(endpoint):
            keys.secure(sock)
        with handshake:
            connect(sock, endpoint)
            sock.send(encode(Status(1)))
            if handshake.wait(timeout_s):
                reply = decode_from_lane(sock.recv_multipart()[0])
                if isinstance(reply, StatusReply):
                    return reply.body
                if isinstance(reply, Error):
                    raise Refused(wire_code(reply.code), reply.message)
    finally:
        sock.close(linger=0)
    if handshake.trouble:
        raise NotAdmitted(handshake.trouble)
    raise ServiceUnavailable(f"nobody answers at {endpoint} (waited {timeout_s:g} s)")
