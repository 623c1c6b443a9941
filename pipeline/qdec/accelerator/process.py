"""The accelerator process: doorbells, one control channel, one loop around `Worker`."""

from __future__ import annotations

import logging
import os
import select
import time

from qdec.accelerator.compiled import compile_kinds
from qdec.accelerator.doorbells import Doorbells, ring, silence
from qdec.accelerator.executor import Executor, Kind
from qdec.accelerator.exits import STATUSES
from qdec.accelerator.start import start_executor
from qdec.accelerator.worker import Worker
from qdec.arena import Arena
from qdec.bits import Bytes
from qdec.child import Child, main
from qdec.config import AcceleratorConfig, Config
from qdec.errors import ConfigError, DeviceError, EngineError
from qdec.lane import realtime
from qdec.lane.library import Library
from qdec.neural.engine import stop_building, use_engine, use_threads

log = logging.getLogger("qdec.accelerator")
# How long it waits for requests. Lanes do not ask an accelerator that is silent for a quarter of a
# second.
_PATIENCE_S = 0.05
# How often it looks at its orders, and tells the supervisor that its loop turns.
_LOOK_S = 0.05
# Libraries that are imported by a tier that needs them read these when they are.
_THREAD_COUNTS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


class Accelerator:
    """Answers windows for lanes until it is told to go."""

    def __init__(self, child: Child) -> None:
        """Begin with nothing compiled."""
        self._child = child
        self._kinds: dict[int, Kind] = {}

    def run(self) -> int:
        """Compile, wait to serve, serve. Returns the exit status.

        Raises:
            ConfigError: a stream's windows cannot be compiled for its tier.
            ChannelClosed: the supervisor is gone.
        """
        try:
            return self._run()
        except DeviceError as error:
            log.exception("the accelerator ends: %s", error)
            return STATUSES[error.kind]

    def _run(self) -> int:
        message = self._child.wait_for("warm")
        if message is None:
            return 0
        config = Config.model_validate(message["config"])
        try:
            _set_up(config.accelerator)
        except EngineError as error:
            self._child.control.send("failed", message=str(error))
            return 2
        if not self._compile(config, strict=message["strict"]):
            return 2
        realtime.settle()
        self._child.control.send("warm")
        message = self._child.wait_for("serve")
        if message is None:
            return 0
        self._serve(Config.model_validate(message["config"]), int(message["generation"]))
        self._child.control.send("drained")
        return 0

    def _compile(self, config: Config, *, strict: bool) -> bool:
        """Compile every kind of window; False if that failed and the supervisor was told."""
        library = Library()
        for index, stream in enumerate(config.stream):
            if stream not in config.accelerated:
                continue
            try:
                self._kinds |= compile_kinds(library, stream, batch=config.accelerator.batch)
            except ConfigError as error:
                # As with lanes: fatal at the service's start; later, others' streams go on.
                if strict:
                    self._child.control.send("failed", message=str(error), stream=index)
                    return False
                log.error("%s: matching will answer it", error)
        return True

    def _serve(self, config: Config, generation: int) -> None:
        arena = Arena(self._child.arena_fd)
        self._bells = Doorbells(self._child.doorbells)
        self._stats = arena.share_accelerator()
        memory, exchanges = arena.share_exchanges(self._bells.slots)
        batch = config.accelerator.batch
        self._fallback = config.accelerator.fallback
        self._executor = self._start_executor(memory, batch)
        self._worker = Worker(
            exchanges,
            self._kinds,
            generation,
            batch=batch,
            stats=self._stats,
            executor=self._executor,
        )
        stop_building()
        self._beat()
        log.info("answers %d kinds of windows", len(self._kinds))
        # Lanes hand over nothing before the supervisor has heard this.
        self._child.control.send("serving")
        self._loop()

    def _start_executor(self, memory: Bytes, batch: int) -> Executor:
        """What runs the batches.

        Raises:
            DeviceError: the device does not do that.
        """
        return start_executor(self._kinds, memory, batch, fallback=self._fallback)

    def _loop(self) -> None:
        control, bell = self._child.control.fileno(), self._bells.accelerator
        done = self._executor.fileno()
        watched = [control, bell] + ([] if done is None else [done])
        next_look = 0.0
        while True:
            called: list[int] = []
            patience = _PATIENCE_S
            if self._worker.pending:
                patience = min(patience, (self._worker.wake_at - time.monotonic_ns()) / 1e9)
            if patience > 0:
                called = select.select(watched, [], [], patience)[0]
                if not called and not self._worker.pending:
                    realtime.tidy()
            silence(bell)
            self._beat()
            self._worker.collect()
            for slot in self._worker.turn():
                ring(self._bells.of(slot))
            now = time.monotonic()
            if now >= next_look or control in called:
                next_look = now + _LOOK_S
                if not self._obey():
                    return

    def _beat(self) -> None:
        self._stats.beat_ns = time.monotonic_ns()

    def _obey(self) -> bool:
        """Listen to the supervisor. False when told to go."""
        self._child.beat()
        return all(order["op"] != "drain" for order in self._child.orders())


def _set_up(settings: AcceleratorConfig) -> None:
    """Have threads, core and engine as configured; before anything is compiled.

    Raises:
        EngineError: the engine cannot be had, and no other may take its place.
    """
    for name in _THREAD_COUNTS:
        os.environ[name] = str(settings.threads)
    use_threads(settings.threads)
    if settings.cpu is not None:
        try:
            os.sched_setaffinity(0, {settings.cpu})
        except OSError as error:
            log.warning("not pinned to core %d: %s", settings.cpu, error.strerror)
    use_engine(
        settings.engine,
        fallback=settings.fallback,
        batch=settings.batch,
        precision=settings.precision,
    )


if __name__ == "__main__":
    main(lambda child: Accelerator(child).run())
