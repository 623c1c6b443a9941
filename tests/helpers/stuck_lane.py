"""A lane process whose loop turns and which answers nothing while a file is there.

As a program it is that process. Only a supervisor that a test has changed (`install`) starts it.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from qdec.child import main
from qdec.config import Config
from qdec.lane import process
from qdec.lane.core import LaneCore
from qdec.supervisor.policy import Role
from qdec.supervisor.table import LANE, process_table

MODULE = "helpers.stuck_lane"
STUCK_FILE = "QDEC_TESTS_STUCK"


def install() -> None:
    """Have this process's supervisor start such lanes."""
    from qdec.supervisor import run

    def table(config: Config) -> tuple[Role, ...]:
        return tuple(
            dataclasses.replace(role, module=MODULE) if role.name == LANE else role
            for role in process_table(config)
        )

    run.process_table = table


class StuckCore(LaneCore):
    """Another one, but for the file."""

    def work(self) -> int:
        return 0 if Path(os.environ[STUCK_FILE]).exists() else super().work()


if __name__ == "__main__":
    process.LaneCore = StuckCore
    main(lambda child: process.LaneProcess(child).run())
