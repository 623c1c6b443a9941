"""Bells that are heard by whoever looks after they were rung, however often they were."""

from __future__ import annotations

import os
import select

from qdec.accelerator.doorbells import Doorbells, ring, silence


def rings(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_rung_once_or_often_it_is_heard_once() -> None:
    bells = Doorbells.create(2)
    silence(bells.accelerator)  # it was not rung: nobody waits
    assert not rings(bells.of(0))
    for _ in range(3):
        ring(bells.of(0))
    assert rings(bells.of(0))
    assert not rings(bells.of(1))
    assert not rings(bells.accelerator)
    silence(bells.of(0))
    assert not rings(bells.of(0))


def test_a_bell_that_nobody_hears_does_not_stop_who_rings_it() -> None:
    bells = Doorbells.create(0)
    os.eventfd_write(bells.accelerator, (1 << 64) - 2)
    ring(bells.accelerator)
    assert rings(bells.accelerator)


def test_more_bells_leave_those_that_there_are() -> None:
    bells = Doorbells.create(1)
    before = list(bells.fds)
    bells.extend(3)
    bells.extend(2)
    assert bells.fds[:2] == before
    assert bells.slots == 3
    assert Doorbells(()).slots == 0
    assert not os.get_inheritable(bells.of(2)), "only who is given it"
