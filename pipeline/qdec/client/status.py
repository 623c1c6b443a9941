"""Ask a lane how it is."""

from __future__ import annotations

from typing import Any

import zmq

from qdec.bus.wire import Status, StatusReply, decode_from_lane, encode
from qdec.client.door import connect
from qdec.errors import ServiceUnavailable


def service_status(endpoint: str, timeout_s: float = 2.0) -> dict[str, Any]:
    """Counters and streams of the lane at an endpoint.

    Raises:
        ServiceUnavailable: no answer in time.
    """
    sock: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    try:
        connect(sock, endpoint)
        sock.send(encode(Status(1)))
        if sock.poll(int(timeout_s * 1000)):
            reply = decode_from_lane(sock.recv_multipart()[0])
            if isinstance(reply, StatusReply):
                return reply.body
    finally:
        sock.close()
    raise ServiceUnavailable(f"nobody answers at {endpoint} (waited {timeout_s:g} s)")
