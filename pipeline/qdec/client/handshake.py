"""How a fresh connection's handshake goes, and what to tell a person where it fails."""

from __future__ import annotations

import time
from types import TracebackType

import zmq
import zmq.utils.monitor

from qdec.bus.endpoints import is_tcp
from qdec.errors import NotAdmitted
from qdec.security.keys import ClientKeys, fingerprint

_DENIED, _BROKEN = zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_MISMATCH, _GONE = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_DISCONNECTED


class Handshake:
    """Watches a socket until its first answer; enter it before the socket connects.

    A service whose key we do not have hangs up without a word, and one that speaks CURVE may do so
    with a plain client before that has understood. So does whatever stands before a service that
    is just being started: that is worth another try, and `trouble` says what else it may be.

    Attributes:
        trouble: what to tell a person if nothing better comes; empty if nobody hung up.
    """

    def __init__(self, sock: zmq.Socket[bytes], endpoint: str, keys: ClientKeys | None) -> None:
        """Prepare for an endpoint; `keys` are what the socket was given, for messages."""
        self._socket = sock
        self._endpoint = endpoint
        self._keys = keys
        self._monitor: zmq.Socket[bytes] | None = None
        self.trouble = ""

    def __enter__(self) -> Handshake:
        """Begin to listen."""
        if is_tcp(self._endpoint):
            self._monitor = self._socket.get_monitor_socket(_DENIED | _BROKEN | _MISMATCH | _GONE)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for a message; False if none came in time, or none can come any more.

        What was sent over a connection that has broken may be lost with it, so that whoever waits
        for an answer should ask again.

        Raises:
            NotAdmitted: the keys do not fit.
        """
        deadline = time.monotonic() + timeout_s
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        if self._monitor is not None:
            poller.register(self._monitor, zmq.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = dict(poller.poll(max(1, int(left * 1000))))
            if self._socket in ready:
                return True
            if self._monitor is not None and self._monitor in ready:
                if self._listen(self._monitor):
                    return False
            elif left <= 0:
                return False

    def _listen(self, monitor: zmq.Socket[bytes]) -> bool:
        """Take one event: whether the connection is gone."""
        event = zmq.utils.monitor.recv_monitor_message(monitor)["event"]
        where, keys = self._endpoint, self._keys
        if event == _DENIED and keys is not None:
            raise NotAdmitted(
                f"the service at {where} does not let your key '{keys.own.name}' in "
                f"({fingerprint(keys.own.public)}): have a [[key]] table with public = "
                f'"{keys.own.public}" added to its authorised keys, and the service told (SIGHUP)',
                by_service=True,
            )
        if event == _MISMATCH and keys is None:
            raise NotAdmitted(
                f"the service at {where} speaks CURVE: give --key FILE and --server-key FILE "
                "(or QDEC_KEY and QDEC_SERVER_KEY); qdec keys new makes a key"
            )
        if event == _MISMATCH:
            raise NotAdmitted(
                f"the service at {where} does not speak CURVE, so it could be anybody: leave out "
                "--key and --server-key (QDEC_KEY, QDEC_SERVER_KEY) if plain TCP is meant"
            )
        if event == _BROKEN and keys is None:
            self.trouble = (
                f"the service at {where} hangs up: perhaps it speaks CURVE, and wants --key FILE "
                "and --server-key FILE (QDEC_KEY, QDEC_SERVER_KEY)"
            )
        elif event == _BROKEN and keys is not None:
            self.trouble = (
                f"the service at {where} hangs up: --server-key ({fingerprint(keys.server)}) is "
                "not its public key, it seems (qdec keys show FILE on its machine prints the hash)"
            )
        return event == _GONE
