"""What every child of the supervisor does: begin, listen to orders, say how it ended."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from qdec import logs
from qdec.control import Channel, ChannelClosed, Message
from qdec.errors import QdecError
from qdec.lane.realtime import die_with_parent

_WAITING_BEAT_S = 0.25


class Child:
    """A child's end of the line to its supervisor.

    Attributes:
        control: the line.
        arena_fd: descriptor of the arena (`qdec.arena`).
        doorbells: descriptors of those that the process may ring or hear.
    """

    def __init__(self, control: Channel, arena_fd: int, doorbells: Sequence[int] = ()) -> None:
        """Take them over."""
        self.control = control
        self.arena_fd = arena_fd
        self.doorbells = tuple(doorbells)
        self._orders: deque[Message] = deque()

    def wait_for(self, op: str) -> Message | None:
        """The next order of a kind, or None when told to go before it came; beats meanwhile.

        Raises:
            ChannelClosed: the supervisor is gone.
        """
        while True:
            self._orders.extend(self.control.receive(timeout_s=_WAITING_BEAT_S))
            while self._orders:
                order = self._orders.popleft()  # what came along with it is for later
                if order["op"] == op:
                    return order
                if order["op"] == "drain":
                    return None
            self.control.send("beat")

    def orders(self) -> Iterator[Message]:
        """What the supervisor has said since last asked.

        Raises:
            ChannelClosed: the supervisor is gone.
        """
        self._orders.extend(self.control.receive())
        while self._orders:
            yield self._orders.popleft()

    def beat(self) -> None:
        """Say that the loop turns; a supervisor that does not listen is not worth waiting for.

        Raises:
            ChannelClosed: the supervisor is gone.
        """
        self.control.flush()
        if not self.control.unsent:
            self.control.send("beat")


def main(run: Callable[[Child], int], argv: list[str] | None = None) -> NoReturn:
    """Be a child process; only the supervisor starts them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--arena-fd", type=int, required=True)
    parser.add_argument("--doorbells", type=int, nargs="*", default=[])
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--role", default="child")
    options = parser.parse_args(argv)
    # The supervisor decides when to drain; a terminal's Ctrl-C reaches the whole group.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(options.parent)
    logs.set_up(options.role)
    channel = Channel(socket.socket(fileno=options.control_fd))
    child = Child(channel, options.arena_fd, options.doorbells)
    status = _status(run, child)
    for words in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a full disk must not change how it ends
            words.flush()
    # Nothing is left to clean up, and interpreter shutdown takes longer than a restart.
    os._exit(status)


def _status(run: Callable[[Child], int], child: Child) -> int:
    try:
        return run(child)
    except ChannelClosed:
        return 1
    except QdecError as error:
        with contextlib.suppress(ChannelClosed):
            child.control.send("failed", message=str(error))
        return 2
