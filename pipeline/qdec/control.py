"""The line between the supervisor and its children: JSON objects, one per line, both ways."""

from __future__ import annotations

import json
import select
import socket
from typing import Any

Message = dict[str, Any]
_CHUNK = 1 << 16
# What the other side may leave unread before it counts as gone.
_MAX_UNSENT = 16 << 20


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """One end of a socket pair. Sending never blocks: a stopped child must not stop its parent."""

    def __init__(self, sock: socket.socket) -> None:
        """Take a connected stream socket over."""
        self._sock = sock
        self._sock.setblocking(True)
        self._buffer = bytearray()
        self._unsent = bytearray()

    def fileno(self) -> int:
        """For select and zmq.Poller."""
        return self._sock.fileno()

    def send(self, op: str, **fields: Any) -> None:
        """Send one message, now or with a later `flush`.

        Raises:
            ChannelClosed: nobody is there to read it.
        """
        self._unsent += json.dumps({"op": op, **fields}).encode() + b"\n"
        if len(self._unsent) > _MAX_UNSENT:
            raise ChannelClosed("the other side does not read")
        self.flush()

    def flush(self, *, wait: bool = False) -> None:
        """Send what an earlier `send` could not; with `wait`, all of it.

        Raises:
            ChannelClosed: nobody is there to read it.
        """
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                raise ChannelClosed(str(error)) from None
            del self._unsent[:sent]

    @property
    def unsent(self) -> int:
        """Bytes waiting for `flush`."""
        return len(self._unsent)

    def receive(self, *, timeout_s: float = 0.0) -> list[Message]:
        """Messages that have arrived; waits up to `timeout_s` for the first.

        Raises:
            ChannelClosed: the other side is gone.
        """
        messages = self._take()
        if not messages and timeout_s > 0:
            select.select([self._sock], [], [], timeout_s)
        while not messages:
            try:
                data = self._sock.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return []
            except OSError as error:
                raise ChannelClosed(str(error)) from None
            if not data:
                raise ChannelClosed("end of stream")
            self._buffer += data
            messages = self._take()
        return messages

    def _take(self) -> list[Message]:
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close this end."""
        self._sock.close()
