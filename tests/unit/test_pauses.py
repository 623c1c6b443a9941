"""A stream whose objectives are missed: its controller is told, and finds its way back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import zmq

from helpers.lanes import KEY, LIBRARY, Lane, Stream, config
from helpers.recordings import recording
from qdec.bus.wire import Open, OpenBody, Opened, Pause, PauseReason, Proceed, encode
from qdec.client import open_stream
from qdec.config import Config, StreamConfig
from qdec.lane.core import LaneCore
from qdec.lane.router import Router
from qdec.slo import Slo

REC = recording("endless")
MS, S = 1_000_000, 1_000_000_000
SLO = Slo(pause_on=("deadline",), deadline_misses=0.02, pause_hold_s=2, probation_s=4)


@pytest.fixture
def stream_config(tmp_path: Path) -> StreamConfig:
    code = tmp_path / "d3.stim"
    code.write_text(REC.text)
    return StreamConfig(
        name="s",
        code=code,
        endless=True,
        windows="6,3",
        ring_rounds=256,
        deadline_us=5000,
        slo=SLO,
    )


class Controller:
    """Sends a second of windows at a time, and notes what it is told."""

    def __init__(self, lane: Lane, cursor: bytes = b"") -> None:
        self.lane = lane
        self.stream = Stream(lane).open(stream="s", cursor=cursor)
        self.at = self.stream.retain_from

    def second(self, late: bool) -> list[object]:
        """Thirty windows and ten looks at what is shown; what was said."""
        for _ in range(30):
            more = 6 if self.at == 0 else 3
            rounds = np.arange(self.at, self.at + more) % len(REC.records)
            assert self.stream.send(self.at, REC.records[rounds]) is None
            self.at += more
            self.lane.now += (6 if late else 1) * MS
            assert len(self.stream.collect()) == 1
        return self.silence()

    def silence(self) -> list[object]:
        self.lane.now += S
        for _ in range(10):
            self.lane.core.show()
        self.stream.collect()
        said, self.stream.others = self.stream.others, []
        return list(said)

    @property
    def pause(self) -> Pause:
        return Pause(self.stream.handle, self.stream.epoch, PauseReason.DEGRADED)

    @property
    def proceed(self) -> Proceed:
        return Proceed(self.stream.handle, self.stream.epoch)


def said_in(steps: int, step: Callable[[], list[object]]) -> list[object]:
    return [message for _ in range(steps) for message in step()]


def degraded(lane: Lane) -> Controller:
    """One that has just been asked to pause."""
    one = Controller(lane)
    for _ in range(3):
        assert one.second(late=False) == []
    for _ in range(10):
        if said := one.second(late=True):
            assert said == [one.pause]
            assert lane.core.stats.open_streams == 1
            return one
    raise AssertionError("nobody minds")


def test_it_is_asked_to_pause_and_proceeds_on_probation(stream_config: StreamConfig) -> None:
    one = degraded(Lane(config(stream_config)))
    assert [one.silence() for _ in range(4)] == [[], [], [], [one.proceed]]
    assert [one.second(late=False) for _ in range(70)] == [[]] * 70


def test_a_relapse_pauses_at_once_and_for_longer(stream_config: StreamConfig) -> None:
    one = degraded(Lane(config(stream_config)))
    assert said_in(4, lambda: one.silence()) == [one.proceed]
    assert one.second(late=True) == [one.pause]
    assert said_in(7, lambda: one.silence()) == []
    assert one.silence() == [one.proceed]


def test_resuming_hides_nothing(stream_config: StreamConfig) -> None:
    lane = Lane(config(stream_config))
    one = degraded(lane)
    lane.core.peer_gone(one.stream.peer)
    lane.now += S
    again = Stream(lane)
    assert [type(m) for m in said_at_resume(again, one.stream.cursor)] == [Pause]
    assert lane.core._sessions[again.handle].paused is PauseReason.DEGRADED


def said_at_resume(stream: Stream, cursor: bytes) -> list[object]:
    """Resume; what was said beside OPENED."""
    body = OpenBody(stream="s", cursor=cursor)
    (opened, _), *others = stream.lane.tell(stream.peer, encode(Open(7, body, True)))
    assert isinstance(opened, Opened)
    stream.handle, stream.epoch = opened.handle, opened.epoch
    return [m for m, _ in others]


def test_a_drain_is_not_ended_by_it(stream_config: StreamConfig) -> None:
    lane = Lane(config(stream_config))
    one = degraded(lane)
    lane.core.drain()
    assert one.silence() == [Pause(one.stream.handle, one.stream.epoch, PauseReason.DRAINING)]
    assert said_in(20, lambda: one.silence()) == []


def test_objectives_change_for_streams_that_are_open(stream_config: StreamConfig) -> None:
    lane = Lane(config(stream_config))
    one = degraded(lane)
    calm = stream_config.model_copy(update={"slo": Slo()})
    lane.core.configure(config(calm))
    assert one.silence() == [one.proceed]
    assert said_in(10, lambda: one.second(late=True)) == []


@contextmanager
def served(settings: Config, endpoint: str) -> Iterator[SimpleQueue[Callable[[LaneCore], None]]]:
    """A lane's core behind a real socket, in a thread, that does what is put in the queue."""
    orders: SimpleQueue[Callable[[LaneCore], None]] = SimpleQueue()
    done = threading.Event()
    with zmq.Context() as context:
        core = LaneCore(settings, 0, KEY, LIBRARY)
        router = Router(context, (endpoint,))

        def loop() -> None:
            while not done.is_set():
                while (message := router.receive()) is not None:
                    core.receive(*message)
                while not orders.empty():
                    orders.get()(core)
                core.work()
                for peer, parts in core.outbox:
                    core.sent(peer, router.send(peer, parts))
                core.outbox.clear()
                router.wait([], 0.002)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield orders
        finally:
            done.set()
            thread.join()
            router.close()


def say(reason: PauseReason | None) -> Callable[[LaneCore], None]:
    def order(core: LaneCore) -> None:
        (session,) = core._sessions.values()
        if reason is None:
            core._send(session.peer, Proceed(session.handle, session.epoch))
        else:
            core._pause(session, reason)

    return order


def test_a_client_knows_why(stream_config: StreamConfig, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/lane.ipc"
    told: list[str] = []
    with served(config(stream_config), endpoint) as orders, open_stream(endpoint, "s") as stream:
        stream.on_event = told.append
        for reason in (PauseReason.OVERLOAD, PauseReason.DEGRADED, None):
            orders.put(say(reason))
            while stream.paused != reason:
                stream.poll(0.01)
    assert told == ["pause asked for: overload", "pause asked for: degraded", "may proceed"]
