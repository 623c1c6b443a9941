"""The supervisor's policy under anything that children may do, in any order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qdec.supervisor.policy import PROBATION_S, Action, Assign, Drain, Policy, Role, Spawn, Stage

STALL = 10.0
GATEWAY = Role("gateway", "gateway", last=True)


class World:
    """A policy whose actions are carried out at once."""

    def __init__(self, lanes: int = 1, spares: int = 1, stall_s: float = STALL) -> None:
        self.table = (Role("lane", "lane", lanes, spares, vital=True), GATEWAY)
        self.policy = Policy(self.table, stall_s)
        self.now = 100.0

    def step(self) -> list[Action]:
        actions = self.policy.decide(self.now)
        for action in actions:
            if isinstance(action, Spawn):
                self.policy.spawned(action.role, self.now)
        return actions

    def settle(self) -> None:
        """Every child does what it is asked for, until nothing is left to do."""
        for _ in range(20):
            moved = bool(self.step())
            for child in self.policy.children:
                if child.stage is Stage.WARMING:
                    self.policy.warmed(child.id, self.now)
                    moved = True
                if child.stage is Stage.STARTING:
                    self.policy.serving(child.id, self.now)
                    moved = True
            if not moved:
                return
        raise AssertionError("never settles")

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for child in self.policy.children:
            if child.stage is not Stage.WARMING:
                self.policy.beat(child.id, self.now)


class Anything(RuleBasedStateMachine):
    """Children live and die as they please; the policy keeps its promises."""

    @initialize(lanes=st.integers(1, 3), spares=st.integers(0, 2))
    def begin(self, lanes: int, spares: int) -> None:
        self.world = World(lanes, spares)
        self.stopped = False

    @rule()
    def step(self) -> None:
        actions = self.world.step()
        if self.stopped:
            assert not any(isinstance(a, Spawn | Assign) for a in actions)
            roles = {self.world.policy.child(a.child).role for a in actions if isinstance(a, Drain)}
            others = any(c.role != GATEWAY for c in self.world.policy.children)
            assert not (GATEWAY in roles and others), "the gateway drains last"

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(which=st.integers(0, 9))
    def a_child_moves_on(self, which: int) -> None:
        children = self.world.policy.children
        if not children:
            return
        child = children[which % len(children)]
        if child.stage is Stage.WARMING:
            self.world.policy.warmed(child.id, self.world.now)
        elif child.stage is Stage.STARTING:
            self.world.policy.serving(child.id, self.world.now)
        elif child.stage is Stage.DRAINING:  # what it said before it was told to go
            self.world.policy.warmed(child.id, self.world.now)
            assert child.stage is Stage.DRAINING

    @rule(which=st.integers(0, 9))
    def a_child_dies(self, which: int) -> None:
        children = self.world.policy.children
        if children:
            self.world.policy.exited(children[which % len(children)].id, self.world.now)

    @rule(lane=st.integers(0, 2))
    def a_lane_is_retired(self, lane: int) -> None:
        self.world.policy.retire("lane", lane, self.world.now)

    @rule(posts=st.sets(st.integers(0, 2)))
    def the_lanes_are_superseded(self, posts: set[int]) -> None:
        lanes = self.world.table[0].posts
        self.world.policy.supersede(("lane", post) for post in posts if post < lanes)

    @rule(role=st.sampled_from(["lane", "gateway"]))
    def the_spares_are_retired(self, role: str) -> None:
        self.world.policy.retire_spares(role, self.world.now)

    @rule()
    def the_gateway_is_retired(self) -> None:
        self.world.policy.retire("gateway", 0, self.world.now)

    @rule()
    def stop(self) -> None:
        self.stopped = True
        self.world.policy.stop()

    @invariant()
    def no_post_is_served_twice(self) -> None:
        for role in self.world.table:
            mine = [c for c in self.world.policy.children if c.role == role]
            posts = [(c.holds, c.edition) for c in mine if c.holds is not None]
            assert len(posts) == len(set(posts)), "a successor is of a newer edition"
            assert all(0 <= post < role.posts for post, _ in posts)
            heirs = [c for c in mine if c.stage is Stage.STARTING]
            assert len({c.post for c in heirs}) == len(heirs)

    @invariant()
    def no_more_children_than_needed(self) -> None:
        for role in self.world.table:
            running = [
                c
                for c in self.world.policy.children
                if c.role == role and c.stage is not Stage.DRAINING
            ]
            at_posts = sum(c.holds is not None for c in running)
            standing_by = sum(c.stage is Stage.STANDBY for c in running)
            fresh = [
                c
                for c in running
                if c.stage in (Stage.WARMING, Stage.SPARE)
                and c.edition == self.world.policy.edition
            ]
            assert at_posts <= 2 * role.posts
            assert standing_by <= role.posts
            assert len(fresh) <= role.posts + role.spares + 1
            if self.world.policy.edition == 0:
                assert len(running) <= role.posts + role.spares

    def teardown(self) -> None:
        """Left in peace, it gets to where it should be."""
        world = self.world
        world.now += 60
        for child in world.policy.children:
            if child.stage is Stage.DRAINING or self.stopped:
                world.step()
                world.policy.exited(child.id, world.now)
            else:
                world.policy.beat(child.id, world.now)
        if self.stopped:
            assert world.policy.stopped
            return
        world.settle()
        assert world.policy.ready
        assert world.policy.served("gateway") == {0}
        world.wait(PROBATION_S)
        world.settle()
        children = [c for c in world.policy.children if c.role.name == "lane"]
        children = [c for c in children if c.stage is not Stage.DRAINING]
        spares = [c for c in children if c.stage is Stage.SPARE]
        assert not world.policy.succeeding
        assert len(spares) == world.table[0].spares
        assert len(children) == world.table[0].posts + world.table[0].spares
        assert all(c.edition == world.policy.edition for c in spares)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=30)
