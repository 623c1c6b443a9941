"""The table of processes that a configuration asks for."""

from __future__ import annotations

from qdec.config import Config
from qdec.supervisor.policy import Role

LANE, GATEWAY, ACCELERATOR = "lane", "gateway", "accelerator"


def process_table(config: Config) -> tuple[Role, ...]:
    """One line per kind of process."""
    lanes = Role(
        LANE,
        "qdec.lane.process",
        posts=len(config.lane),
        spares=config.service.spare_lanes,
        vital=True,
        trusted=True,
        writes=True,
    )
    table = [lanes]
    if config.accelerated:
        table.append(
            Role(
                ACCELERATOR,
                "qdec.accelerator.process",
                writes=True,
                nice=5,
                last=True,
                alone=True,
                awaited=True,
                first=True,
            )
        )
    if config.gateway is not None:
        table.append(Role(GATEWAY, "qdec.gateway.process", nice=10, last=True))
    return tuple(table)


def changed_posts(old: Config, new: Config) -> list[tuple[str, int]]:
    """(role, post) of processes that cannot go on under the new configuration."""

    def realtime(config: Config) -> tuple[str, int]:
        return config.service.realtime, config.service.realtime_priority

    changed = [
        (LANE, i)
        for i, lane in enumerate(old.lane)
        if i >= len(new.lane)
        or realtime(old) != realtime(new)
        or lane.endpoints != new.lane[i].endpoints
        or lane.cpu != new.lane[i].cpu
    ]
    if bool(old.accelerated) != bool(new.accelerated):
        changed.append((ACCELERATOR, 0))
    if new.gateway != old.gateway:
        changed.append((GATEWAY, 0))
    return changed
