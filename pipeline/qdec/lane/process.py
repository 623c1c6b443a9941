"""The lane process: one ROUTER socket, one control channel, one loop around `LaneCore`."""

from __future__ import annotations

import contextlib
import logging
import time

import zmq

from qdec import logs
from qdec.accelerator.doorbells import Doorbells, ring, silence
from qdec.accelerator.link import Link
from qdec.arena import Arena
from qdec.child import Child, main
from qdec.config import Config
from qdec.control import Message
from qdec.errors import ArenaError, ConfigError, QdecError
from qdec.lane import realtime
from qdec.lane.core import LaneCore
from qdec.lane.library import Library
from qdec.lane.making import Making
from qdec.lane.router import Router
from qdec.lane.session import Arrival
from qdec.lane.stats import Slot

log = logging.getLogger("qdec.lane")
_BEAT_S = 0.1
# How often a busy lane looks at what is not its clients'.
_LOOK_S = 0.005
_MESSAGES_PER_TURN = 16
_DRAIN_QUIET_S = 0.05
# Clients are touched at most so often to see which of them have left: connections that end cost
# nothing, even those that never had a key.
_PROBE_S = 0.1
# Longest time to answer complete windows before clients are sent to a successor, which answers the
# rest.
_HAND_OVER_S = 0.1


class LaneProcess:
    """Runs one lane until it is told to drain, or its supervisor is gone."""

    def __init__(self, child: Child) -> None:
        """Begin with nothing to serve."""
        self._child = child
        self._library = Library()
        self._context = zmq.Context(io_threads=1)
        self._drain_until: float | None = None
        self._bell: int | None = None
        self._busy_at = 0.0
        self._next_beat = 0.0
        self._left = False
        self._next_probe = 0.0

    def run(self) -> int:
        """Warm up, and serve the lanes that one is given, until told to go: the exit status."""
        realtime.stand_back()
        message = self._child.wait_for("warm")
        if message is None:
            return 0
        config = Config.model_validate(message["config"])
        key, curve = bytes.fromhex(message["key"]), message.get("curve")
        for index, stream in enumerate(config.stream):
            try:
                former = map(tuple, message["former"].get(stream.name, ()))
                self._library.warm(stream, config.service.max_stream_bytes, tuple(former))
            except ConfigError as error:
                # At the service's start that is fatal; later, a code file that has gone bad must
                # not keep other streams from being served.
                if message["strict"]:
                    self._child.control.send("failed", message=str(error), stream=index)
                    return 2
                log.error("%s: its stream will be refused", error)
        realtime.settle()
        realtime.step_forward()
        self._child.control.send("warm", makings=self._makings(config))
        while (message := self._child.wait_for("serve")) is not None:
            handed_over = self._serve(message, key, curve)
            if not handed_over:
                break
            self._child.control.send("handed_over")
        self._context.term()
        self._child.control.send("drained")
        return 0

    def _makings(self, config: Config) -> dict[str, Making]:
        """What makes the answers of each stream that could be compiled."""
        found = {}
        for stream in config.stream:
            with contextlib.suppress(QdecError):
                found[stream.name] = self._library.making(stream)
        return found

    def _serve(self, message: Message, key: bytes, curve: str | None) -> bool:
        """Serve a lane. True if it was handed over to another process."""
        config = Config.model_validate(message["config"])
        lane = int(message["post"])
        logs.call_process(f"lane{lane}")
        self._handing_over = False
        self._set_up(config, lane)
        slot = self._slot(message["slot"])
        link = self._link(message["slot"])
        self._core = LaneCore(config, lane, key, self._library, slot=slot, link=link)
        core = self._core
        self._router = Router(
            self._context,
            config.lane[lane].endpoints,
            curve if config.speaks_curve else None,
            lambda: core.access,
            core.refused_handshake,
            message["listening"],
        )
        self._child.control.send("serving")
        try:
            self._loop()
        finally:
            self._router.close()
        return self._handing_over

    def _slot(self, index: int | None) -> Slot | None:
        """Where to count; nowhere that others see is no reason not to serve."""
        try:
            return None if index is None else Arena(self._child.arena_fd).write_slot(index)
        except (ArenaError, OSError) as error:
            log.error("what this lane counts will not be exported: %s", error)
            return None

    def _link(self, index: int | None) -> Link | None:
        """To the accelerator, there or not; without one, the lane answers every window itself."""
        bells = Doorbells(self._child.doorbells)
        if index is None or index >= bells.slots:
            return None
        try:
            arena = Arena(self._child.arena_fd)
            exchange, words = arena.share_exchange(index), arena.share_accelerator()
        except (ArenaError, OSError) as error:
            log.error("this lane will not use the accelerator: %s", error)
            return None
        self._bell = bells.of(index)
        return Link(exchange, words, lambda: ring(bells.accelerator))

    def _set_up(self, config: Config, lane: int) -> None:
        """Real-time work, as far as it is to be had; before the first socket."""
        cpus, service = [one.cpu for one in config.lane], config.service
        found = realtime.set_up(
            self._context, cpus, lane, service.realtime, service.realtime_priority
        )
        for level, line in realtime.told(found):
            log.log(level, "lane %d: %s", lane, line)
        realtime.insist(found)

    def _loop(self) -> None:
        others = [self._child.control.fileno(), *self._router.news_fds]
        others += [] if self._bell is None else [self._bell]
        next_look = 0.0
        hurry = False
        while True:
            received, emptied = self._receive()
            busy = bool(self._core.work()) or received > 0 or self._core.awaiting
            if busy:
                self._busy_at = time.monotonic()
            self._send()
            self._core.stats.turns += 1
            called: list[int] = []
            if emptied and not self._core.waiting:
                until = min(self._next_beat, self._core.wake_at)
                patience_s = 0.0 if hurry else max(0.0, until - time.monotonic())
                waited, called = self._router.wait(others, patience_s)
                if self._bell in called:
                    silence(self._bell)
                    called.remove(self._bell)
                if waited:  # else a message came during the work, and has waited since
                    self._queue_is_empty()
                    self._core.idle = self._core.arrived
            if not called and not hurry and time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + _LOOK_S
            hurry = self._router.admit()
            self._left |= self._router.someone_left()
            if self._left and time.monotonic() >= self._next_probe:
                self._left, self._next_probe = False, time.monotonic() + _PROBE_S
                self._core.probe()
                self._send()
            if not self._housekeeping(busy):
                return

    def _queue_is_empty(self) -> None:
        """Whatever is received from here on has come since now."""
        self._core.arrived = Arrival(time.monotonic_ns(), time.thread_time_ns())

    def _receive(self) -> tuple[int, bool]:
        """Take what has arrived, up to a bound: how many messages, and whether that was all."""
        for n in range(_MESSAGES_PER_TURN):
            if not self._router.skip():
                return n + 1, False
            message = self._router.receive()
            if message is None:
                self._queue_is_empty()
                return n, True
            opened = self._core.stats.opened
            self._core.receive(*message)
            if self._core.stats.opened != opened:
                # What compiling left behind is collected now, not under the stream's first rounds.
                realtime.settle()
        return _MESSAGES_PER_TURN, False

    def _send(self) -> None:
        while self._core.outbox:
            outbox, self._core.outbox = self._core.outbox, []
            for peer, parts in outbox:
                sent = self._router.send(peer, parts)
                if sent:
                    self._core.stats.bytes_out += sum(map(len, parts))
                self._core.sent(peer, sent)

    def _finish(self) -> None:
        """Answer what is complete, and send every client to whoever listens here now."""
        give_up = time.monotonic() + _HAND_OVER_S
        while (self._core.waiting or self._core.awaiting) and time.monotonic() < give_up:
            self._core.work()
            self._send()
        self._receive()  # who has just come is sent on as well
        self._core.farewell()
        self._send()

    def _housekeeping(self, busy: bool) -> bool:
        """Beat, listen to the supervisor. False when the lane is done."""
        for message in self._child.orders():
            match message["op"]:
                case "configure":
                    self._core.configure(Config.model_validate(message["config"]))
                case "drain":
                    self._drain_until = time.monotonic() + float(message["seconds"])
                    self._busy_at = time.monotonic()
                    self._core.drain()
                    self._send()
                case "hand_over":
                    self._finish()
                    self._handing_over = True
                    return False
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + _BEAT_S
            self._core.show()
            self._child.beat()
            if not busy:
                realtime.tidy()
        if self._drain_until is None:
            return True
        if now - self._busy_at < _DRAIN_QUIET_S and now < self._drain_until:
            self._next_beat = min(self._next_beat, now + _DRAIN_QUIET_S / 2)
            return True
        self._core.farewell()
        self._send()
        return False


if __name__ == "__main__":
    main(lambda child: LaneProcess(child).run())
