"""Who runs and who is replaced, stepped event by event."""

from __future__ import annotations

import pytest

from qdec.supervisor.policy import (
    PROBATION_S,
    Assign,
    Drain,
    HandOver,
    Kill,
    Policy,
    Role,
    Spawn,
    Stage,
)

STALL, DRAIN = 2.0, 10.0


def lane_role(lanes: int = 1, spares: int = 1) -> Role:
    return Role("lane", "lane", lanes, spares, vital=True)


LANE, GATEWAY = lane_role(), Role("gateway", "gateway", last=True)


def policy(lanes: int = 1, spares: int = 1) -> Policy:
    return Policy([lane_role(lanes, spares)], STALL, DRAIN)


def served(one: Policy, now: float = 0.0) -> list[int]:
    """Bring every lane up; ids of all children, spares last."""
    started = [action.role for action in one.decide(now) if isinstance(action, Spawn)]
    children = [one.spawned(role, now) for role in started]
    for child in children:
        one.warmed(child, now)
    for action in one.decide(now):
        assert isinstance(action, Assign)
        one.serving(action.child, now)
    return children


def test_lanes_are_served_before_the_service_is_ready() -> None:
    one = policy(lanes=2, spares=1)
    assert [type(a) for a in one.decide(0)] == [Spawn] * 3
    children = [one.spawned(lane_role(2, 1), 0) for _ in range(3)]
    assert one.decide(0) == []
    one.warmed(children[1], 1)
    assert one.decide(1) == [Assign(children[1], 0)]
    one.serving(children[1], 1)
    assert not one.ready
    one.warmed(children[0], 1)
    assert one.decide(1) == [Assign(children[0], 1)]
    one.serving(children[0], 1)
    assert one.ready


def test_a_dead_lane_is_given_to_the_spare_at_once_and_a_new_spare_is_started() -> None:
    one = policy()
    lane, spare = served(one)
    one.exited(lane, 1)
    assert one.decide(1) == [Assign(spare, 0), Spawn(LANE)]
    assert one.restarts == {("lane", 0): 1}


@pytest.mark.parametrize("role", [lane_role(spares=0), GATEWAY], ids=lambda role: role.name)
def test_a_child_that_never_serves_is_not_restarted_in_a_loop(role: Role) -> None:
    one = Policy([role], STALL, DRAIN)
    waits = []
    now = 0.0
    for _ in range(8):
        while one.decide(now) != [Spawn(role)]:
            now += 0.01
        child = one.spawned(role, now)
        died = now
        one.exited(child, now)
        while one.decide(now) != [Spawn(role)]:
            now += 0.01
        waits.append(now - died)
    assert waits == sorted(waits)
    assert 9 < waits[-1] < 11


def test_a_lane_whose_loop_does_not_turn_is_killed_once() -> None:
    one = policy()
    lane, spare = served(one)
    one.beat(spare, STALL)
    one.beat(lane, 1.0)
    assert one.decide(1.0 + STALL) == []
    one.beat(spare, 3.0)
    (kill,) = one.decide(1.1 + STALL)
    assert isinstance(kill, Kill)
    assert kill.child == lane
    assert one.decide(1.2 + STALL) == []


def test_a_spare_that_hangs_is_given_up_before_and_after_it_gets_a_lane() -> None:
    one = policy()
    lane, spare = served(one)
    one.beat(lane, 1 + STALL)
    assert [a.child for a in one.decide(0.1 + STALL) if isinstance(a, Kill)] == [spare]

    one = policy()
    lane, spare = served(one)
    one.exited(lane, 1.0)
    assert Assign(spare, 0) in one.decide(1.0)
    assert [a.child for a in one.decide(1.1 + STALL) if isinstance(a, Kill)] == [spare]


def test_warming_up_may_take_its_time_but_not_for_ever() -> None:
    one = policy(spares=0)
    (_,) = one.decide(0)
    child = one.spawned(lane_role(spares=0), 0)
    assert one.decide(300) == []
    assert [a.child for a in one.decide(601) if isinstance(a, Kill)] == [child]


def test_a_retired_lane_drains_while_another_takes_over() -> None:
    one = policy()
    lane, spare = served(one)
    assert one.retire("lane", 0, 1.0) == [lane]
    assert one.decide(1.0) == [Assign(spare, 0), Spawn(LANE)]
    one.exited(lane, 1.5)
    assert not one.restarts


def test_a_retired_lane_that_does_not_finish_is_killed() -> None:
    one = policy()
    lane, spare = served(one)
    one.retire("lane", 0, 1.0)
    one.decide(1.0)
    now = 1.0 + DRAIN + 6
    one.beat(spare, now)
    assert [a.child for a in one.decide(now) if isinstance(a, Kill)] == [lane]


def test_retired_spares_are_replaced() -> None:
    one = policy()
    _, spare = served(one)
    assert one.retire_spares("lane", 1.0) == [spare]
    assert one.decide(1.0) == [Spawn(LANE)]


def test_stopping_drains_everything_and_starts_nothing() -> None:
    one = policy()
    children = served(one)
    one.stop()
    assert one.decide(1.0) == [Drain(c) for c in children]
    assert one.decide(1.1) == []
    assert all(c.stage is Stage.DRAINING for c in one.children)
    for child in children:
        one.exited(child, 2.0)
    assert one.stopped


def test_new_numbers_hold_from_now_on() -> None:
    one = policy()
    lane, spare = served(one)
    one.adopt(one.table, stall_s=0.7, drain_s=1.0)
    one.beat(spare, 1.0)
    (kill,) = [a for a in one.decide(1.0) if isinstance(a, Kill)]
    assert (kill.child, kill.reason) == (lane, "its loop has not turned for 0.7 s")

    one = policy()
    lane, spare = served(one)
    one.adopt(one.table, STALL, drain_s=1.0)
    one.retire("lane", 0, 1.0)
    one.decide(1.0)
    one.beat(spare, 7.1)
    assert [a.child for a in one.decide(7.1) if isinstance(a, Kill)] == [lane]


# -- new editions of what children are warm with -------------------------------------------------


def superseded() -> tuple[Policy, int, int, int]:
    """A lane's successor has just begun to serve; lane, past spare, successor."""
    one = policy()
    lane, spare = served(one)
    one.supersede([("lane", 0)])
    assert one.decide(1.0) == [Spawn(LANE), Spawn(LANE)], "nobody leaves before others are warm"
    heir, fresh = one.spawned(LANE, 1.0), one.spawned(LANE, 1.0)
    assert one.decide(1.1) == []
    one.warmed(heir, 1.2)
    assert one.decide(1.2) == [Assign(heir, 0)]
    assert one.served("lane") == {0}, "the lane serves on"
    assert one.decide(1.3) == []
    one.serving(heir, 1.4)
    assert one.decide(1.4) == [HandOver(lane)]
    one.warmed(fresh, 1.5)
    assert one.decide(1.5) == [], "a spare that is out of date is better than none"
    return one, lane, spare, heir


def test_a_successor_serves_before_the_lane_hands_over() -> None:
    one, lane, spare, heir = superseded()
    assert not one.succeeding
    assert one.child(lane).stage is Stage.STANDBY
    for now in (2.0, 1.4 + PROBATION_S):
        for child in one.children:
            one.beat(child.id, now)
        assert one.decide(now) == ([] if now == 2.0 else [Drain(lane), Drain(spare)])
    assert one.served("lane") == {0}
    assert not one.restarts
    assert one.child(heir).stage is Stage.SERVING


def test_a_successor_that_dies_on_probation_gives_the_post_back() -> None:
    one, lane, spare, heir = superseded()
    one.exited(heir, 2.0)
    one.beat(spare, 2.0)
    assert one.decide(2.0) == [Assign(lane, 0, again=True)]
    one.serving(lane, 2.1)
    assert one.decide(2.2) == [Drain(spare)], "nor is it succeeded again before somebody says so"
    assert one.restarts == {("lane", 0): 1}


def test_a_successor_that_dies_later_is_replaced_by_the_spare() -> None:
    one, lane, spare, heir = superseded()
    one.exited(lane, 1.6)
    one.exited(spare, 1.6)
    (fresh,) = (c.id for c in one.children if c.stage is Stage.SPARE)
    one.exited(heir, 2.0)
    assert one.decide(2.0) == [Assign(fresh, 0), Spawn(LANE)]


def test_a_successor_that_dies_before_it_serves_is_tried_again_and_the_lane_serves_on() -> None:
    one = policy(spares=0)
    (lane,) = served(one)
    one.supersede([("lane", 0)])
    now = 1.0
    for _ in range(3):
        while not any(isinstance(a, Spawn) for a in one.decide(now)):
            now += 0.05
            one.beat(lane, now)
        heir = one.spawned(lane_role(spares=0), now)
        one.warmed(heir, now)
        assert one.decide(now) == [Assign(heir, 0)]
        one.exited(heir, now)
        assert one.served("lane") == {0}
        assert one.succeeding == {("lane", 0)}


def test_who_stands_by_does_not_return_to_a_post_whose_settings_change() -> None:
    one, lane, _, heir = superseded()
    (fresh,) = (c.id for c in one.children if c.stage is Stage.SPARE and c.edition)
    assert set(one.retire("lane", 0, 2.0)) == {lane, heir}
    assert one.decide(2.0) == [Assign(fresh, 0), Spawn(LANE)]


def test_a_post_is_up_to_date_again_after_its_successor_and_then_all_fresh_ones_died() -> None:
    one = policy()
    lane, spare = served(one)
    one.supersede([("lane", 0)])
    heir, fresh = (one.spawned(a.role, 1.0) for a in one.decide(1.0) if isinstance(a, Spawn))
    one.warmed(heir, 1.1)
    assert one.decide(1.1) == [Assign(heir, 0)]
    one.exited(lane, 1.2)
    one.exited(heir, 1.2)
    assert one.decide(1.2) == [Assign(spare, 0)], "better than nobody"
    one.serving(spare, 1.3)
    one.warmed(fresh, 1.4)
    assert one.decide(1.4)[0] == Assign(fresh, 0)


def test_what_was_warm_before_a_change_is_up_to_date_when_it_is_taken_back() -> None:
    one = policy()
    lane, spare = served(one)
    one.supersede([("lane", 0)])
    heir, bad = (one.spawned(a.role, 1.0) for a in one.decide(1.0) if isinstance(a, Spawn))
    one.warmed(heir, 1.1)
    assert one.decide(1.1) == [Assign(heir, 0)]
    one.serving(heir, 1.2)
    assert one.decide(1.2) == [HandOver(lane)]
    one.exited(heir, 1.3)
    one.warmed(bad, 1.3)
    assert one.decide(1.3) == [Assign(lane, 0, again=True)]
    one.restore([])
    one.serving(lane, 1.3)
    assert one.decide(1.3) == [Drain(bad)], "the spare of before is good, the other is not"
    assert one.child(spare).stage is Stage.SPARE


def test_lanes_are_succeeded_one_after_the_other() -> None:
    one = policy(lanes=2, spares=0)
    role = lane_role(2, 0)
    lanes = served(one)
    one.supersede([("lane", 0), ("lane", 1)])
    assert one.decide(1.0) == [Spawn(role)]
    first = one.spawned(role, 1.0)
    one.warmed(first, 1.0)
    assert one.decide(1.0) == [Assign(first, 0), Spawn(role)]
    second = one.spawned(role, 1.0)
    one.serving(first, 1.0)
    assert one.decide(1.0) == [HandOver(lanes[0])]
    one.warmed(second, 1.0)
    assert one.decide(1.0) == [Assign(second, 1)]
    one.serving(second, 1.0)
    assert one.decide(1.0) == [HandOver(lanes[1])]
    assert not one.succeeding


def test_who_must_be_alone_is_drained_when_its_successor_is_warm() -> None:
    one = Policy([ACCELERATOR], STALL, DRAIN)
    (first,) = served(one)
    one.supersede([("accelerator", 0)])
    assert one.decide(1.0) == [Spawn(ACCELERATOR)]
    second = one.spawned(ACCELERATOR, 1.0)
    assert one.decide(1.1) == []
    one.warmed(second, 1.2)
    assert one.decide(1.2) == [Drain(first)]
    assert one.decide(1.3) == []
    one.exited(first, 1.4)
    assert one.decide(1.4) == [Assign(second, 0)]
    assert not one.succeeding


def test_who_is_first_is_succeeded_before_the_lanes_that_ask_it() -> None:
    first = Role("accelerator", "accelerator", last=True, alone=True, first=True)
    one = Policy([lane_role(spares=0), first], STALL, DRAIN)
    lane, accelerator = served(one)
    one.supersede([("lane", 0), ("accelerator", 0)])
    spawned = [one.spawned(a.role, 1.0) for a in one.decide(1.0) if isinstance(a, Spawn)]
    heir, other = spawned
    one.warmed(heir, 1.1)
    assert one.decide(1.1) == []
    one.warmed(other, 1.2)
    assert one.decide(1.2) == [Drain(accelerator)]
    assert one.decide(1.3) == []
    one.exited(accelerator, 1.4)
    assert one.decide(1.4) == [Assign(other, 0)]
    assert one.decide(1.5) == [Assign(heir, 0)]
    assert one.child(lane).stage is Stage.SERVING


def test_lanes_do_not_wait_for_one_that_cannot_get_warm() -> None:
    first = Role("accelerator", "accelerator", last=True, alone=True, first=True)
    one = Policy([lane_role(spares=0), first], STALL, DRAIN)
    served(one)
    one.supersede([("lane", 0), ("accelerator", 0)])
    heir, other = [one.spawned(a.role, 1.0) for a in one.decide(1.0) if isinstance(a, Spawn)]
    one.warmed(heir, 1.1)
    one.exited(other, 1.1)
    assert one.decide(1.1) == [Assign(heir, 0)]
    assert one.served("accelerator") == {0}


def test_successors_that_come_to_nothing_are_counted_until_one_serves() -> None:
    one = policy(spares=0)
    served(one)
    one.supersede([("lane", 0)])
    role, now = lane_role(spares=0), 1.0
    for died in range(1, 4):
        while not any(isinstance(a, Spawn) for a in one.decide(now)):
            now += 0.05
        heir = one.spawned(role, now)
        one.exited(heir, now)
        assert one.failures == died
    while not any(isinstance(a, Spawn) for a in one.decide(now)):
        now += 0.05
    heir = one.spawned(role, now)
    one.warmed(heir, now)
    one.decide(now)
    one.serving(heir, now)
    assert one.failures == 0
    one.supersede([("lane", 0)])
    assert one.failures == 0


# -- more than one role ------------------------------------------------------------------------


def both() -> tuple[Policy, int, int, int]:
    """A lane, its spare and a gateway, all where they should be."""
    one = Policy([LANE, GATEWAY], STALL, DRAIN)
    lane, spare, gateway = served(one)
    return one, lane, spare, gateway


def test_a_service_is_ready_without_its_gateway() -> None:
    one = Policy([LANE, GATEWAY], STALL, DRAIN)
    spawned = one.decide(0)
    assert spawned == [Spawn(LANE), Spawn(LANE), Spawn(GATEWAY)]
    lane, _, gateway = (one.spawned(a.role, 0) for a in spawned if isinstance(a, Spawn))
    one.warmed(gateway, 0)
    assert one.decide(0) == [Assign(gateway, 0)]
    one.serving(gateway, 0)
    assert not one.ready
    one.warmed(lane, 0)
    assert one.decide(0) == [Assign(lane, 0)]
    one.serving(lane, 0)
    assert one.ready
    assert one.served("gateway") == {0}


def test_a_gateway_that_dies_again_and_again_waits_longer_each_time_and_lanes_do_not() -> None:
    one, lane, spare, gateway = both()
    now, waits = 1.0, []
    for died in range(1, 8):
        one.exited(gateway, now)
        assert one.restarts == {("gateway", 0): died}
        assert one.ready
        assert one.decide(now) == []
        since = now
        while one.decide(now) != [Spawn(GATEWAY)]:
            now += 0.01
            one.beat(lane, now)
            one.beat(spare, now)
        waits.append(now - since)
        gateway = one.spawned(GATEWAY, now)
        one.warmed(gateway, now)
        assert one.decide(now) == [Assign(gateway, 0)]
        one.serving(gateway, now)
    assert waits == sorted(waits)
    assert waits[-1] > 3
    # Whoever waits for the gateway, the lane's place is taken at once.
    one.exited(gateway, now)
    one.exited(lane, now)
    assert one.decide(now) == [Assign(spare, 0), Spawn(LANE)]


def test_a_gateway_that_has_lived_for_a_while_is_forgiven() -> None:
    one, lane, spare, gateway = both()
    for now in (100.0, 200.0):
        for child in (lane, spare):
            one.beat(child, now)
        one.exited(gateway, now)
        assert one.decide(now) == [Spawn(GATEWAY)]
        gateway = one.spawned(GATEWAY, now)
        one.warmed(gateway, now)
        one.decide(now)
        one.serving(gateway, now)


def test_the_gateway_drains_when_all_lanes_are_gone() -> None:
    one, lane, spare, gateway = both()
    one.stop()
    assert one.decide(1.0) == [Drain(lane), Drain(spare)]
    one.exited(spare, 1.1)
    assert one.decide(1.2) == []
    one.exited(lane, 1.3)
    assert one.decide(1.4) == [Drain(gateway)]
    assert not one.stopped
    one.exited(gateway, 1.5)
    assert one.stopped


ACCELERATOR = Role("accelerator", "accelerator", last=True, alone=True, awaited=True)


def test_the_next_of_who_must_be_alone_serves_when_the_last_is_gone() -> None:
    one = Policy([ACCELERATOR], STALL, DRAIN)
    (first,) = served(one)
    one.retire("accelerator", 0, 1.0)
    assert one.decide(1.0) == [Spawn(ACCELERATOR)], "it may get warm meanwhile"
    second = one.spawned(ACCELERATOR, 1.0)
    one.warmed(second, 1.1)
    assert one.decide(1.2) == []
    one.exited(first, 1.3)
    assert one.decide(1.4) == [Assign(second, 0)]


@pytest.mark.parametrize("dies", [False, True])
def test_what_is_awaited_has_served_or_died_before_the_service_is_announced(dies: bool) -> None:
    one = Policy([lane_role(spares=0), ACCELERATOR], STALL, DRAIN)
    lane, accelerator = (one.spawned(a.role, 0) for a in one.decide(0) if isinstance(a, Spawn))
    one.warmed(lane, 0)
    one.decide(0)
    one.serving(lane, 0)
    assert one.ready
    assert not one.started
    one.warmed(accelerator, 0)
    one.decide(0)
    assert not one.started
    if dies:
        one.exited(accelerator, 0)
    else:
        one.serving(accelerator, 0)
    assert one.started
    one.exited(accelerator, 1)
    assert one.started, "it is not waited for again"


def test_a_role_that_leaves_the_table_is_not_replaced() -> None:
    one, _, _, gateway = both()
    one.table = (LANE,)
    assert one.retire("gateway", 0, 1.0) == [gateway]
    one.exited(gateway, 1.1)
    assert one.decide(1.2) == []
    one.table = (LANE, GATEWAY)
    assert one.decide(1.3) == [Spawn(GATEWAY)]


def test_spares_that_die_do_not_keep_a_dead_lane_from_being_replaced_at_once() -> None:
    """A spare that had become warm did not die of its start."""
    one = policy()
    lane, spare = served(one)
    now = 0.0
    for _ in range(6):
        one.exited(spare, now)
        while not (spawned := [a for a in one.decide(now) if isinstance(a, Spawn)]):
            now += 0.05
            one.beat(lane, now)
        spare = one.spawned(spawned[0].role, now)
        now += 1.0
        one.warmed(spare, now)
        one.beat(lane, now)
    one.exited(spare, now)
    one.exited(lane, now)
    assert Spawn(LANE) in one.decide(now)
