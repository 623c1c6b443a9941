"""The lane process: one ROUTER socket, one control channel, one loop around `LaneCore`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import deque

import zmq

from qdec.config import Config
from qdec.control import Channel, ChannelClosed, Message
from qdec.errors import ConfigError, QdecError
from qdec.lane import realtime
from qdec.lane.core import LaneCore
from qdec.lane.library import Library
from qdec.lane.router import Router
from qdec.lane.session import Arrival

log = logging.getLogger("qdec.lane")
_BEAT_S = 0.1
_SPARE_BEAT_S = 0.25
# How often a busy lane looks at what is not its clients'.
_LOOK_S = 0.005
_MESSAGES_PER_TURN = 16
_DRAIN_QUIET_S = 0.05


class LaneProcess:
    """Runs one lane until it is told to drain, or its supervisor is gone."""

    def __init__(self, control: Channel) -> None:
        """Talk to the supervisor over `control`."""
        self._control = control
        self._orders: deque[Message] = deque()
        self._library = Library()
        self._context = zmq.Context(io_threads=1)
        self._drain_until: float | None = None
        self._quiet_since = 0.0
        self._next_beat = 0.0

    def run(self) -> int:
        """Warm up, wait for a lane to serve, serve it. Returns the exit status."""
        message = self._await("warm")
        if message is None:
            return 0
        config = Config.model_validate(message["config"])
        key = bytes.fromhex(message["key"])
        for index, stream in enumerate(config.stream):
            try:
                self._library.warm(stream, config.service.max_stream_bytes)
            except ConfigError as error:
                # At the service's start that is fatal; later, a code file that has gone bad must
                # not keep other streams from being served.
                if message["strict"]:
                    self._control.send("failed", message=str(error), stream=index)
                    return 2
                log.error("%s: its stream will be refused", error)
        realtime.settle()
        self._control.send("warm")
        message = self._await("serve")
        if message is None:
            return 0
        config = Config.model_validate(message["config"])
        lane = int(message["lane"])
        realtime.pin(config.lane[lane].cpu)
        self._core = LaneCore(config, lane, key, self._library)
        self._router = Router(self._context, config.lane[lane].endpoints)
        self._control.send("serving", lane=lane)
        try:
            self._loop()
        finally:
            self._router.close()
            self._context.term()
        self._control.send("drained")
        return 0

    def _await(self, op: str) -> Message | None:
        """The next message of a kind, or None when told to go before it came."""
        while True:
            self._orders.extend(self._control.receive(timeout_s=_SPARE_BEAT_S))
            while self._orders:
                message = self._orders.popleft()  # what came along with it is for later
                if message["op"] == op:
                    return message
                if message["op"] == "drain":
                    return None
            self._control.send("beat")

    def _loop(self) -> None:
        others = [self._control.fileno(), self._router.monitor_fd]
        next_look = 0.0
        while True:
            busy = self._receive()
            busy = bool(self._core.work()) or busy
            self._send()
            self._core.stats.turns += 1
            if not busy:
                self._router.wait(others, max(0.0, self._next_beat - time.monotonic()))
                self._queue_is_empty()
                self._core.idle = self._core.arrived
            elif time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + _LOOK_S
            if self._router.someone_left():
                self._core.probe()
                self._send()
            if not self._housekeeping(busy):
                return

    def _queue_is_empty(self) -> None:
        """Whatever is received from here on has come since now."""
        self._core.arrived = Arrival(time.monotonic_ns(), time.thread_time_ns())

    def _receive(self) -> bool:
        """Take what has arrived, up to a bound. True if there was anything."""
        for n in range(_MESSAGES_PER_TURN):
            message = self._router.receive()
            if message is None:
                self._queue_is_empty()
                return n > 0
            opened = self._core.stats.opened
            self._core.receive(*message)
            if self._core.stats.opened != opened:
                # What compiling left behind is collected now, not under the stream's first rounds.
                realtime.settle()
        return True

    def _send(self) -> None:
        while self._core.outbox:
            outbox, self._core.outbox = self._core.outbox, []
            for peer, parts in outbox:
                self._core.sent(peer, self._router.send(peer, parts))

    def _housekeeping(self, busy: bool) -> bool:
        """Beat, listen to the supervisor. False when the lane is done."""
        self._orders.extend(self._control.receive())
        while self._orders:
            message = self._orders.popleft()
            match message["op"]:
                case "configure":
                    self._core.configure(Config.model_validate(message["config"]))
                case "drain":
                    self._drain_until = time.monotonic() + float(message["seconds"])
                    self._quiet_since = time.monotonic()
                    self._core.drain()
                    self._send()
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + _BEAT_S
            # A supervisor that does not listen for a while is not worth a lane's patience.
            self._control.flush()
            if not self._control.unsent:
                self._control.send("beat", turns=self._core.stats.turns)
            if not busy:
                realtime.tidy()
        if self._drain_until is None:
            return True
        if busy:
            self._quiet_since = now
        if now - self._quiet_since < _DRAIN_QUIET_S and now < self._drain_until:
            self._next_beat = min(self._next_beat, now + _DRAIN_QUIET_S / 2)
            return True
        self._core.farewell()
        self._send()
        return False


def main(argv: list[str] | None = None) -> int:
    """Entry point of the process; started by the supervisor only."""
    parser = argparse.ArgumentParser(prog="qdec.lane.process")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(argv)
    # The supervisor decides when to drain; a terminal's Ctrl-C reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    realtime.die_with_parent(options.parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    control = Channel(socket.socket(fileno=options.control_fd))
    try:
        return LaneProcess(control).run()
    except ChannelClosed:
        return 1
    except QdecError as error:
        with contextlib.suppress(ChannelClosed):
            control.send("failed", message=str(error))
        return 2


if __name__ == "__main__":
    # os._exit: nothing is left to clean up, and interpreter shutdown takes longer than a restart.
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
