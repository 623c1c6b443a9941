"""The faults, as a table: what each does, to which process, how it is undone, what is expected."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from random import Random

from qdec_tools.chaos import engine, processes
from qdec_tools.chaos.stage import Stage

Undo = Callable[[], object]
_HOUR_NS = 3_600_000_000_000
_SHARE = 0.02
_DELAY_S = 0.08
_PATIENCE_S = 60.0


def _nothing() -> None:
    """There is nothing to undo."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which things go wrong.

    Attributes:
        name: of it, in options and reports.
        does: what happens.
        whom: the process it happens to.
        undone: how it ends.
        inject: does it, to what a random choice hits; what it returns undoes it.
        lasts_s: the least and most time until it is undone.
        within_s: every stream should be answered again after so long: every stream has an answer
            to rounds that its client sent after that time began.
        mends_itself: the service undoes it, so that the time begins with the fault; else with its
            undoing.
        spare: it waits for a warm spare lane: that is what its recovery is about.
        back: what else must be there again; its recovery counts, too.
    """

    name: str
    does: str
    whom: str
    undone: str
    inject: Callable[[Stage, Random], Undo]
    lasts_s: tuple[float, float] = (0.0, 0.0)
    within_s: float = 1.0
    mends_itself: bool = False
    spare: bool = False
    back: Callable[[Stage], bool] | None = None


def _kill(pid: int | None, number: signal.Signals = signal.SIGKILL) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill_of(whom: Callable[[Stage, Random], int | None]) -> Callable[[Stage, Random], Undo]:
    def inject(stage: Stage, random: Random) -> Undo:
        _kill(whom(stage, random))
        return _nothing

    return inject


def _stop_of(whom: Callable[[Stage, Random], int | None]) -> Callable[[Stage, Random], Undo]:
    def inject(stage: Stage, random: Random) -> Undo:
        pid = whom(stage, random)
        _kill(pid, signal.SIGSTOP)
        return lambda: _kill(pid, signal.SIGCONT)

    return inject


def _a_lane(stage: Stage, random: Random) -> int | None:
    return stage.lane(random.randrange(len(stage.endpoints)))


def _a_client(stage: Stage, random: Random) -> int | None:
    return stage.client(random.choice(stage.patches).name)


def _kill_lanes(stage: Stage, _: Random) -> Undo:
    for index in range(len(stage.endpoints)):
        _kill(stage.lane(index))
    return _nothing


def _hang_lane(stage: Stage, random: Random) -> Undo:
    """It stays stopped until the supervisor has had enough."""
    pid = _a_lane(stage, random)
    _kill(pid, signal.SIGSTOP)
    stage.wait(lambda: pid not in stage.children, stage.stall_s + 10)
    return _nothing


def _hang_accelerator(stage: Stage, _: Random) -> Undo:
    """One that serves: to warm up it may take its time."""
    stage.wait(stage.accelerates, _PATIENCE_S)
    pid = stage.accelerator()
    _kill(pid, signal.SIGSTOP)
    stage.wait(lambda: pid not in stage.children, stage.stall_s + 10)
    return _nothing


def _restart(stage: Stage, _: Random) -> Undo:
    stage.kill_service()
    stage.serve()
    return _nothing


def _engine(words: str) -> Callable[[Stage, Random], Undo]:
    def inject(stage: Stage, _: Random) -> Undo:
        stage.tell(engine.FAULT, words)
        return lambda: stage.tell(engine.FAULT, "")

    return inject


def _cut(stage: Stage, _: Random) -> Undo:
    for proxy in stage.proxies.values():
        proxy.cut()
    return _nothing


def _tear(stage: Stage, _: Random) -> Undo:
    for proxy in stage.proxies.values():
        proxy.tear()
    return _nothing


def _stall(stage: Stage, _: Random) -> Undo:
    for proxy in stage.proxies.values():
        proxy.stall()

    def undo() -> None:
        for proxy in stage.proxies.values():
            proxy.flow()

    return undo


def _delay(stage: Stage, random: Random) -> Undo:
    def to(seconds: float) -> None:
        for proxy in stage.proxies.values():
            proxy.delay_s = seconds

    to(random.uniform(0.0, _DELAY_S))
    return lambda: to(0.0)


def _messages(name: str) -> Callable[[Stage, Random], Undo]:
    def inject(stage: Stage, _: Random) -> Undo:
        def to(share: float) -> None:
            for relay in stage.relays.values():
                setattr(relay, name, share)

        to(_SHARE)
        return lambda: to(0.0)

    return inject


def _full(stage: Stage, random: Random) -> Undo:
    """While it is full a lane dies, so that there is something to say."""
    processes_ = stage.everything
    stage.disk.fill(processes_)
    _kill(_a_lane(stage, random))
    return lambda: stage.disk.free(processes_)


def _clock(stage: Stage, random: Random) -> Undo:
    """It is stepped while streams are resumed, since epochs are made from it."""
    stage.tell("clock", str(random.choice([-1, 1]) * random.randrange(_HOUR_NS, 90_000 * _HOUR_NS)))
    _cut(stage, random)
    return lambda: stage.tell("clock", "")


def _starve(stage: Stage, random: Random) -> Undo:
    pid = _a_lane(stage, random)
    core = min(os.sched_getaffinity(0))
    before: dict[int, set[int]] = {}
    for thread in processes.threads(pid) if pid else []:
        with suppress(OSError):
            before[thread] = os.sched_getaffinity(thread)
            os.sched_setaffinity(thread, {core})
    hogs = ExitStack()
    hog = hogs.enter_context(stage.harm("burn"))
    os.sched_setaffinity(hog, {core})

    def undo() -> None:
        hogs.close()
        for thread, cores in before.items():
            with suppress(OSError):
                os.sched_setaffinity(thread, cores)

    return undo


def _harm(what: str) -> Callable[[Stage, Random], Undo]:
    def inject(stage: Stage, _: Random) -> Undo:
        block = ExitStack()
        block.enter_context(stage.harm(what))
        return block.close

    return inject


def _stop_supervisor(stage: Stage, _: Random) -> Undo:
    """For longer than it would let a lane be silent."""
    _kill(stage.supervisor, signal.SIGSTOP)
    time.sleep(1.5 * stage.stall_s)
    return lambda: _kill(stage.supervisor, signal.SIGCONT)


def _accelerator(stage: Stage, _: Random) -> int | None:
    return stage.accelerator()


def _gateway(stage: Stage, _: Random) -> int | None:
    return stage.gateway()


def _spare(stage: Stage, _: Random) -> int | None:
    return stage.spare()


_CONT = "SIGCONT"
_SUPERVISOR = "the supervisor starts another"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "kill-lane",
        "SIGKILL",
        "a lane",
        "the warm spare takes its place",
        _kill_of(_a_lane),
        spare=True,
        mends_itself=True,
    ),
    Fault(
        "kill-lanes",
        "SIGKILL",
        "both lanes at once",
        "the warm spare takes one's place; the other one's starts cold",
        _kill_lanes,
        within_s=10.0,
        mends_itself=True,
    ),
    Fault(
        "kill-spare", "SIGKILL", "the spare lane", _SUPERVISOR, _kill_of(_spare), mends_itself=True
    ),
    Fault(
        "kill-accelerator",
        "SIGKILL",
        "the accelerator",
        _SUPERVISOR,
        _kill_of(_accelerator),
        mends_itself=True,
    ),
    Fault(
        "kill-gateway",
        "SIGKILL",
        "the gateway",
        _SUPERVISOR,
        _kill_of(_gateway),
        within_s=10.0,
        back=Stage.gateway_answers,
        mends_itself=True,
    ),
    Fault(
        "restart",
        "SIGKILL, its children die with it; started again",
        "the supervisor",
        "clients resume with what they hold",
        _restart,
        within_s=20.0,
        mends_itself=True,
    ),
    Fault("stop-lane", "SIGSTOP", "a lane", _CONT, _stop_of(_a_lane), (0.1, 1.2)),
    Fault(
        "hang-lane",
        "SIGSTOP",
        "a lane",
        "the supervisor kills it",
        _hang_lane,
        spare=True,
        within_s=3.0,
        mends_itself=True,
    ),
    Fault(
        "stop-accelerator",
        "SIGSTOP",
        "the accelerator",
        _CONT,
        _stop_of(_accelerator),
        (0.1, 1.2),
    ),
    Fault(
        "hang-accelerator",
        "SIGSTOP",
        "the accelerator",
        "the supervisor kills it",
        _hang_accelerator,
        mends_itself=True,
    ),
    Fault(
        "stop-gateway",
        "SIGSTOP",
        "the gateway",
        _CONT,
        _stop_of(_gateway),
        (0.1, 1.2),
        back=Stage.gateway_answers,
    ),
    Fault(
        "stop-supervisor",
        "SIGSTOP, for longer than it would let a lane be silent",
        "the supervisor",
        _CONT,
        _stop_supervisor,
    ),
    Fault("stop-client", "SIGSTOP", "a client", _CONT, _stop_of(_a_client), (0.2, 3.0)),
    Fault(
        "engine-stalls",
        "a call does not come back",
        "the accelerator's engine",
        "it does after all",
        _engine(engine.STALLS),
        (0.3, 1.2),
    ),
    Fault(
        "engine-slow",
        "every call takes 20 ms more",
        "the accelerator's engine",
        "they do no longer",
        _engine(engine.SLOW),
        (0.5, 2.0),
    ),
    Fault(
        "engine-nan",
        "answers NaN",
        "the accelerator's engine",
        "it answers right again",
        _engine(engine.NAN),
        (0.5, 2.0),
    ),
    Fault(
        "engine-garbage",
        "answers the opposite, finite and confident",
        "the accelerator's engine",
        "it answers right again",
        _engine(engine.GARBAGE),
        (0.5, 2.0),
    ),
    Fault(
        "engine-fails",
        "raises",
        "the accelerator's engine",
        "it answers right again",
        _engine(engine.FAILS),
        (0.5, 2.0),
    ),
    Fault(
        "net-cut",
        "every connection is reset",
        "a proxy",
        "clients connect again",
        _cut,
        mends_itself=True,
    ),
    Fault(
        "net-torn",
        "a connection is reset in mid-frame",
        "a proxy",
        "clients connect again",
        _tear,
        mends_itself=True,
    ),
    Fault("net-stalls", "nothing gets through", "a proxy", "it flows again", _stall, (0.2, 2.5)),
    Fault(
        "net-slow",
        "up to 80 ms for each piece of data",
        "a proxy",
        "they go",
        _delay,
        (0.5, 2.0),
        within_s=2.0,
    ),
    Fault(
        "messages-lost",
        "2 % of all messages do not come",
        "a relay",
        "all do again",
        _messages("lose"),
        (1.0, 3.0),
        within_s=2.0,
    ),
    Fault(
        "messages-twice",
        "2 % of all messages come twice, also behind later ones",
        "a relay",
        "none does any more",
        _messages("repeat"),
        (1.0, 3.0),
        within_s=2.0,
    ),
    Fault(
        "disk-full",
        "no room for state and log, and a lane gets SIGKILL",
        "all of the service",
        "there is room again",
        _full,
        (1.0, 2.0),
        spare=True,
    ),
    Fault(
        "clock-step",
        "CLOCK_REALTIME is off by up to ten years, and connections are reset",
        "all of the service",
        "it is right again",
        _clock,
        (0.5, 1.5),
    ),
    Fault(
        "cpu-starved",
        "a busy loop on the core to which it is pinned",
        "a lane",
        "the loop ends",
        _starve,
        (0.5, 2.0),
    ),
    Fault(
        "memory-hog",
        "256 MB are touched again and again",
        "another process",
        "it is killed",
        _harm("hoard"),
        (0.5, 2.0),
    ),
    Fault(
        "flood",
        "junk, questions and rounds beyond credit, as fast as they go",
        "another client",
        "it is killed",
        _harm("flood"),
        (0.5, 2.0),
    ),
    Fault(
        "deaf",
        "sends rounds and reads no answer",
        "another client",
        "it is killed",
        _harm("deaf"),
        (0.5, 3.0),
    ),
    Fault(
        "reconnects",
        "opens its stream and vanishes, over and over",
        "another client",
        "it is killed",
        _harm("reconnects"),
        (0.5, 2.0),
    ),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
