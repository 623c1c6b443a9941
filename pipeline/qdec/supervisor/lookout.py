"""What the supervisor sees of its children: of lanes, in the arena, what only they know."""

from __future__ import annotations

from qdec.arena import Arena
from qdec.config import Config
from qdec.lane.stats import LaneStats
from qdec.supervisor.policy import Child, Policy, Stage
from qdec.supervisor.slots import Slots
from qdec.supervisor.table import ACCELERATOR, GATEWAY, LANE
from qdec.supervisor.telling import State
from qdec.supervisor.vigil import Sight


def _word(name: str) -> int:
    """Where in a slot a word of the lane's is."""
    return int(getattr(LaneStats, name).offset) // 8


_STREAMS, _DUE = _word("open_streams"), _word("oldest_due_ns")


class Lookout:
    """Puts together what is known."""

    def __init__(self, arena: Arena, slots: Slots, policy: Policy) -> None:
        """Look at these."""
        self._arena = arena
        self._slots = slots
        self._policy = policy
        self._mapped: dict[int, memoryview] = {}

    def sights(self, config: Config) -> list[Sight]:
        """Every lane of the configuration."""
        serving = self._serving()
        return [self._sight(lane, serving.get(lane)) for lane in range(len(config.lane))]

    def state(self, config: Config) -> State:
        """How the service is, as far as children are concerned."""
        serving, served, restarts = self._serving(), self._policy.served, self._policy.restarts
        return State(
            lanes=len(config.lane),
            served=len(serving),
            streams=sum(self._words(child)[0] for child in serving.values()),
            accelerator=bool(served(ACCELERATOR)) if config.accelerated else None,
            accelerator_restarts=restarts[ACCELERATOR, 0],
            gateway=bool(served(GATEWAY)) if config.gateway is not None else None,
            gateway_restarts=restarts[GATEWAY, 0],
        )

    def _serving(self) -> dict[int, Child]:
        return {
            child.post: child
            for child in self._policy.children
            if child.role.name == LANE and child.stage is Stage.SERVING and child.post is not None
        }

    def _sight(self, lane: int, child: Child | None) -> Sight:
        if child is None:
            return Sight(lane, None)
        due = self._words(child)[1]
        return Sight(lane, child.id, child.last_beat, due / 1e9 if due else None)

    def _words(self, child: Child) -> tuple[int, int]:
        """Its open streams, and when its oldest window is due in ns; 0 where it has no slot."""
        slot = self._slots.of(child.id)
        if slot is None:
            return 0, 0
        if slot not in self._mapped:
            self._mapped[slot] = self._arena.read_slot(slot)
        words = self._mapped[slot]
        return words[_STREAMS], words[_DUE]
