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
import zmq.utils.monitor

from qdec.bus.endpoints import is_ipv6
from qdec.bus.wire import MAX_PARTS
from qdec.config import Config
from qdec.control import Channel, ChannelClosed, Message
from qdec.errors import ConfigError, QdecError
from qdec.lane import realtime
from qdec.lane.core import LaneCore
from qdec.lane.library import Library
from qdec.lane.session import Arrival

log = logging.getLogger("qdec.lane")
_BEAT_S = 0.1
_SPARE_BEAT_S = 0.25
_MESSAGES_PER_TURN = 16
# Decoding goes on for so long before input is looked at again.
_WORK_SLICE_S = 0.0005
# A peer that does not read holds at most so many commits here; then its streams are freed.
_SEND_HWM = 4096
_RECEIVE_HWM = 256
_MAX_MESSAGE_BYTES = 17 << 20
_BIND_PATIENCE_S = 5.0
_DRAIN_QUIET_S = 0.05
_LINGER_MS = 2000


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
        for stream in config.stream:
            try:
                self._library.warm(stream)
            except QdecError as error:
                # At the service's start that is fatal; later, a code file that has gone bad must
                # not keep other streams from being served.
                if message["strict"]:
                    raise
                log.error("%s: its stream will be refused", error)
        realtime.settle()
        self._control.send("warm")
        message = self._await("serve")
        if message is None:
            return 0
        config = Config.model_validate(message["config"])
        lane = int(message["lane"])
        self._set_up(config, lane)
        self._core = LaneCore(config, lane, key, self._library)
        self._router = self._bind(config.lane[lane].endpoints)
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._control.fileno(), zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._control.send("serving", lane=lane)
        try:
            self._loop()
        finally:
            self._router.disable_monitor()
            self._monitor.close(linger=0)
            self._router.close(linger=_LINGER_MS)
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

    def _set_up(self, config: Config, lane: int) -> None:
        """Real-time work, as far as it is to be had; before the first socket."""
        cpus, service = [one.cpu for one in config.lane], config.service
        found = realtime.set_up(
            self._context, cpus, lane, service.realtime, service.realtime_priority
        )
        for level, line in realtime.told(found):
            log.log(level, "lane %d: %s", lane, line)
        realtime.insist(found)

    def _bind(self, endpoints: tuple[str, ...]) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.SNDHWM, _SEND_HWM)
        router.setsockopt(zmq.RCVHWM, _RECEIVE_HWM)
        router.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        router.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
        router.setsockopt(zmq.LINGER, _LINGER_MS)
        router.setsockopt(zmq.BACKLOG, 1024)
        self._monitor = router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        give_up = time.monotonic() + _BIND_PATIENCE_S
        for endpoint in endpoints:
            router.setsockopt(zmq.IPV6, is_ipv6(endpoint))
            while True:
                try:
                    router.bind(endpoint)
                    break
                except zmq.ZMQError as error:
                    # The lane this one replaces may not be entirely gone yet.
                    if error.errno != zmq.EADDRINUSE or time.monotonic() > give_up:
                        raise ConfigError(
                            f"cannot bind {endpoint}: {error.strerror} "
                            "(is another qdec running? see 'qdec status')"
                        ) from None
                    time.sleep(0.005)
        return router

    def _loop(self) -> None:
        turn = 0
        while True:
            busy = self._receive()
            until = time.monotonic() + _WORK_SLICE_S
            while self._core.work():
                self._send()
                busy = True
                if time.monotonic() > until:
                    break
            self._send()
            turn += 1
            self._core.stats.turns = turn
            if busy and time.monotonic() < self._next_beat:
                continue
            if not busy:
                wait_s = max(0.0, self._next_beat - time.monotonic())
                self._poller.poll(int(wait_s * 1000) + 1)
                self._queue_is_empty()
                self._core.idle = self._core.arrived
            if self._monitor.poll(0):
                self._someone_left()
            if not self._housekeeping(busy):
                return

    def _queue_is_empty(self) -> None:
        """Whatever is received from here on has come since now."""
        self._core.arrived = Arrival(time.monotonic_ns(), time.thread_time_ns())

    def _receive(self) -> bool:
        """Take what has arrived, up to a bound. True if there was anything."""
        recv, more = self._router.recv, zmq.RCVMORE
        for n in range(_MESSAGES_PER_TURN):
            try:
                peer = recv(zmq.NOBLOCK)
            except zmq.Again:
                self._queue_is_empty()
                return n > 0
            parts: list[bytes] = []
            while self._router.getsockopt(more):
                part = recv()
                if len(parts) <= MAX_PARTS:
                    parts.append(part)
            opened = self._core.stats.opened
            self._core.receive(peer, parts or [b""])
            if self._core.stats.opened != opened:
                # What compiling left behind is collected now, not under the stream's first rounds.
                realtime.settle()
        return True

    def _send(self) -> None:
        outbox = self._core.outbox
        while outbox:
            self._core.outbox = []
            for peer, parts in outbox:
                try:
                    self._router.send_multipart([peer, *parts], zmq.NOBLOCK)
                    ok = True
                except zmq.ZMQError as error:
                    # EHOSTUNREACH: the peer is gone. EAGAIN: it has stopped reading.
                    if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                        raise
                    ok = False
                self._core.sent(peer, ok)
            outbox = self._core.outbox

    def _someone_left(self) -> None:
        while self._monitor.poll(0):
            zmq.utils.monitor.recv_monitor_message(self._monitor, zmq.NOBLOCK)
        self._core.probe()
        self._send()

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
