"""Faults at random times into a live run, one behind the other, and how long each was felt."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from qdec.errors import ServiceUnavailable
from qdec_tools.chaos.accounts import Account
from qdec_tools.chaos.faults import Fault
from qdec_tools.chaos.stage import Stage

GAP_S = (0.1, 0.8)
_SPARE_S = 30.0
# Beyond what is expected: then it has not recovered, and the run is no good.
_MERCY_S = 60.0
# The share of faults behind which the next one follows at once.
_OVERLAP = 0.2
# Windows sent shortly before a fault may be answered during it.
_AROUND_NS = 1_000_000_000
_MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that was injected.

    Attributes:
        fault: which.
        begin, end: from when to when, ns of CLOCK_MONOTONIC.
        felt: from when on its recovery counts.
        alone: whether the next one came only when all was well again.
        back_s: how long it took what else must be back.
    """

    fault: Fault
    begin: int
    end: int
    felt: int
    alone: bool
    back_s: float


@dataclass
class Result:
    """What a run has come to.

    Attributes:
        accounts: of each stream.
        faults: how often each was injected.
        recovery_s: the longest time until every stream had an answer to what was sent after each.
        clients: what each client reports.
        problems: what went wrong with the run itself.
        wrongs: what is wrong, the first few.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, float] = field(default_factory=dict)
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)

    @property
    def total(self) -> Account:
        """All streams together."""
        return sum(self.accounts.values(), Account())

    @property
    def clean(self) -> bool:
        """Whether nothing is lost, repeated or wrong, and every client lived."""
        return self.total.clean and not self.problems


def deck(faults: Sequence[Fault], random: Random) -> Iterator[Fault]:
    """Every fault in random order, again and again, so that a short run has as many as it can."""
    while True:
        yield from random.sample(faults, len(faults))


def inject(stage: Stage, fault: Fault, random: Random, *, alone: bool = True) -> Injection:
    """Do it, undo it, and (alone) wait until every stream is answered again.

    Raises:
        ServiceUnavailable: a client has ended, or one is not answered any more.
    """
    if fault.spare:
        stage.wait(stage.spare_is_warm, _SPARE_S)
    begin = time.monotonic_ns()
    undo = fault.inject(stage, random)
    time.sleep(random.uniform(*fault.lasts_s))
    undo()
    end = time.monotonic_ns()
    felt = begin if fault.mends_itself else end
    back_s = 0.0
    if alone:
        stage.wait(lambda: stage.answered_since(felt), fault.within_s + _MERCY_S)
        if fault.back is not None:
            back = fault.back
            stage.wait(lambda: back(stage), fault.within_s + _MERCY_S)
            back_s = (time.monotonic_ns() - felt) / 1e9
    return Injection(fault, begin, end, felt, alone, back_s)


def run(
    stage: Stage,
    faults: Sequence[Fault],
    random: Random,
    seconds: float,
    on_tick: Callable[[str], None] = lambda _: None,
    gap_s: tuple[float, float] = GAP_S,
) -> Result:
    """Inject faults for a while, let the clients finish, count.

    Args:
        stage: started.
        faults: which.
        random: decides which comes when, and whom it hits.
        seconds: how long.
        on_tick: told what is going on, now and then.
        gap_s: the least and most time between two faults.
    """
    result = Result()
    injections: list[Injection] = []
    until = time.monotonic() + seconds
    cards = deck(faults, random)
    try:
        while faults and time.monotonic() < until:
            on_tick("…")
            time.sleep(min(random.uniform(*gap_s), max(0.0, until - time.monotonic())))
            stage.look_after_clients()
            fault = next(cards)
            on_tick(fault.name)
            alone = random.random() >= _OVERLAP
            injections.append(inject(stage, fault, random, alone=alone))
            result.faults[fault.name] += 1
        while time.monotonic() < until:
            on_tick("…")
            time.sleep(0.2)
            stage.look_after_clients()
    except ServiceUnavailable as error:
        result.problems.append(str(error))
    return judged(stage, injections, result, on_tick)


def judged(
    stage: Stage,
    injections: Sequence[Injection],
    result: Result | None = None,
    on_tick: Callable[[str], None] = lambda _: None,
) -> Result:
    """Let the clients finish, and hold every answer against a replay."""
    result = result or Result()
    on_tick("waiting for the last answers")
    result.clients = stage.finish()
    on_tick("checking every answer")
    for name, report in result.clients.items():
        if report["error"]:
            result.problems.append(f"{name}: {report['error']}")
    garbled = [
        (one.begin - _AROUND_NS, one.end + _AROUND_NS)
        for one in injections
        if one.fault.name == "engine-garbage"
    ]
    for patch in stage.patches:

        def on_wrong(line: str, name: str = patch.name) -> None:
            if len(result.wrongs) < _MOST_TOLD:
                result.wrongs.append(f"{name}: {line}")

        report = result.clients[patch.name]
        result.accounts[patch.name] = stage.account(patch, report, garbled, on_wrong)
    result.recovery_s = recoveries(stage, injections)
    return result


def recoveries(stage: Stage, injections: Sequence[Injection]) -> dict[str, float]:
    """For each fault the longest recovery of any stream, of those that came alone."""
    found: dict[str, float] = {}
    for one in injections:
        if not one.alone:
            continue
        times = [one.back_s]
        for patch in stage.patches:
            with suppress(LookupError):
                times.append(answered_after(stage, patch, one.felt))
        found[one.fault.name] = max(found.get(one.fault.name, 0.0), *times)
    return found


def answered_after(stage: Stage, patch: Any, at: int) -> float:
    """Seconds from a time until something that was sent later was answered.

    Raises:
        LookupError: nothing was.
    """
    stamps = stage.rows(patch)["t_send"]
    deliveries = stage.deliveries(patch)
    later = np.flatnonzero(stamps >= at)
    if not len(later):
        raise LookupError
    delivery = int(np.searchsorted(deliveries["rows"], later[0], side="right"))
    return float(deliveries["at"][delivery] - at) / 1e9
