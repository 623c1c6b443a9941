"""A status for each fault, and what the supervisor does with a process that exits with one."""

from __future__ import annotations

import pytest

from qdec.accelerator.exits import STATUSES, in_words
from qdec.errors import DeviceError, DeviceFault
from qdec.supervisor.policy import Assign, Policy, Role, Spawn

ACCELERATOR = Role("accelerator", "accelerator", alone=True, awaited=True)
LANE = Role("lane", "lane", vital=True)


def test_every_fault_has_a_status_of_its_own_that_says_what_it_was() -> None:
    assert STATUSES.keys() == set(DeviceFault)
    taken = {0, 1, 2, *range(64, 79), *range(126, 256)}
    assert len(set(STATUSES.values()) - taken) == len(DeviceFault)
    for fault, status in STATUSES.items():
        assert in_words(status) == fault.value
        assert str(DeviceError(fault, "why")) == f"{fault.value}: why"
    assert "configuration" in in_words(2)
    assert in_words(1) == in_words(-9) == ""


@pytest.mark.parametrize("serves", [True, False])
def test_a_device_that_fails_again_and_again_is_tried_less_and_less_often(serves: bool) -> None:
    one = Policy([LANE, ACCELERATOR], 2.0, 10.0)
    now = 0.0
    for action in one.decide(now):
        assert isinstance(action, Spawn)
        child = one.spawned(action.role, now)
        one.warmed(child, now)
    starts = [a for a in one.decide(now) if isinstance(a, Assign)]
    lane, accelerator = [a.child for a in starts]
    one.serving(lane, now)
    if serves:
        one.serving(accelerator, now)
    waits = []
    for _ in range(9):
        one.exited(accelerator, now)
        died = now
        assert one.ready, "lanes go on"
        while not (spawned := [a for a in one.decide(now) if isinstance(a, Spawn)]):
            now += 0.05
            one.beat(lane, now)
        assert spawned == [Spawn(ACCELERATOR)]
        waits.append(round(now - died, 3))
        accelerator = one.spawned(ACCELERATOR, now)
        one.warmed(accelerator, now)
        assert one.decide(now) == [Assign(accelerator, 0)]
        if serves:
            one.serving(accelerator, now)
    assert waits == sorted(waits)
    assert waits[0] < 0.2
    assert 9 < waits[-1] < 11
    assert one.started
    assert one.restarts["accelerator", 0] == (9 if serves else 0)
    if serves:  # one that has lived for a while is replaced at once
        one.beat(lane, now + 40)
        one.beat(accelerator, now + 40)
        one.exited(accelerator, now + 40)
        assert Spawn(ACCELERATOR) in one.decide(now + 40)
