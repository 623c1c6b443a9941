"""The client side of the bus: rounds kept until committed, breaks survived, commits in order.

::

    from qdec.client import open_stream

    with open_stream("tcp://127.0.0.1:7600", "patch0") as stream:
        stream.send(records)                  # (n, stream.info.record_bytes) uint8
        for commits in stream.poll(0.01):     # structured array, one row per window
            apply(commits["frame"])

A stream belongs to one thread. After any break (the lane dies, the network drops, the service is
restarted) it resumes from the newest cursor by itself and sends again what is needed; every window
is handed over exactly once, in order.
"""

from qdec.client.interface import Commits, Stream
from qdec.client.opening import open_stream
from qdec.client.options import CodeText, Patience
from qdec.client.outbox import Outbox
from qdec.client.status import service_status
from qdec.security.keys import ClientKeys, client_keys

__all__ = [
    "ClientKeys",
    "CodeText",
    "Commits",
    "Outbox",
    "Patience",
    "Stream",
    "client_keys",
    "open_stream",
    "service_status",
]
