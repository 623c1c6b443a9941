"""The service as the harness starts it: `qdec serve`, with children that can be made to fail.

Only whoever starts a service with this program can make it fail: nothing of it is in the service,
and no client reaches it. Faults are told through files in a folder that the environment names.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path

from qdec.config import Config
from qdec.supervisor import run
from qdec.supervisor.policy import Role
from qdec.supervisor.table import ACCELERATOR, LANE, process_table

FOLDER = "QDEC_CHAOS_FOLDER"
LANE_MODULE, ENGINE_MODULE = "qdec_tools.chaos.lane", "qdec_tools.chaos.engine"


def told(name: str) -> str:
    """What a fault's file says; empty where there is none."""
    try:
        return (Path(os.environ[FOLDER]) / name).read_text()
    except OSError:
        return ""


def tell(folder: Path, name: str, words: str) -> None:
    """Write a fault's file, or remove it if there is nothing to say."""
    path = folder / name
    if not words:
        path.unlink(missing_ok=True)
        return
    part = path.with_suffix(".part")
    part.write_text(words)
    part.rename(path)


def replace_modules(modules: Mapping[str, str]) -> None:
    """Have this process's supervisor start other modules for some roles, by their names."""

    def table(config: Config) -> tuple[Role, ...]:
        return tuple(
            dataclasses.replace(role, module=modules.get(role.name, role.module))
            for role in process_table(config)
        )

    setattr(run, process_table.__name__, table)


def step_clock() -> None:
    """Have this process's CLOCK_REALTIME be off by as many ns as a file says, at any time."""
    real_ns, real = time.time_ns, time.time

    def offset() -> int:
        return int(told("clock") or 0)

    time.time_ns = lambda: real_ns() + offset()
    time.time = lambda: real() + offset() / 1e9


def main() -> None:
    """Be ``qdec``, changed."""
    from qdec.cli import main

    step_clock()
    replace_modules({LANE: LANE_MODULE, ACCELERATOR: ENGINE_MODULE})
    main()
