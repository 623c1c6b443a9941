"""What the supervisor sees of lanes, in an arena that lanes write to."""

from __future__ import annotations

from helpers.lanes import config
from qdec.arena import Arena
from qdec.config import GatewayConfig
from qdec.supervisor.lookout import Lookout
from qdec.supervisor.policy import Assign, Policy, Spawn
from qdec.supervisor.slots import Slots
from qdec.supervisor.table import LANE, process_table
from qdec.supervisor.telling import State
from qdec.supervisor.vigil import Sight

SETTINGS = config(lanes=2).model_copy(update={"gateway": GatewayConfig()})


def test_lanes_are_seen_as_they_serve_write_and_go() -> None:
    arena = Arena.create()
    slots = Slots(arena.write_head())
    policy = Policy(process_table(SETTINGS), stall_s=10)
    lookout = Lookout(arena, slots, policy)
    nobody = [Sight(0, None), Sight(1, None)]
    assert lookout.sights(SETTINGS) == nobody
    assert lookout.state(SETTINGS) == State(lanes=2, served=0, gateway=False)

    for action in policy.decide(0.0):
        assert isinstance(action, Spawn)
        policy.warmed(policy.spawned(action.role, 0.0), 0.0)
    written = {}
    for action in policy.decide(1.0):
        assert isinstance(action, Assign)
        if policy.child(action.child).role.name == LANE:
            slot = slots.take(action.post, action.child)
            assert slot is not None
            written[action.post] = action.child, arena.write_slot(slot).lane
    assert lookout.sights(SETTINGS) == nobody  # they start, and do not serve yet
    for child, words in written.values():
        policy.serving(child, 2.0)
        words.open_streams = 3
    first, second = (child for child, _ in written.values())
    written[1][1].oldest_due_ns = 5_500_000_000
    assert lookout.sights(SETTINGS) == [Sight(0, first, 2.0), Sight(1, second, 2.0, 5.5)]
    assert lookout.state(SETTINGS) == State(lanes=2, served=2, streams=6, gateway=False)

    slots.release(second)
    policy.exited(second, 3.0)
    assert lookout.sights(SETTINGS) == [Sight(0, first, 2.0), Sight(1, None)]
    assert lookout.state(SETTINGS) == State(lanes=2, served=1, streams=3, gateway=False)
