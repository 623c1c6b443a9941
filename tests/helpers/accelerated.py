"""A real service with an accelerated stream, and a client that goes on until a tier answers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from helpers.services import GEOMETRY, TEXT, rounds_of_a_shot
from qdec.client import Stream
from qdec.match import Tier
from qdec_tools.service import Service

MATCHING, CORRELATED = int(Tier.MATCHING), int(Tier.CORRELATED)
SERVES = "kinds of windows"
# Long enough for a machine that is busy with other tests.
IN_TIME_US, SOON_US = 20_000_000, 300_000


def table(folder: Path, name: str, deadline_us: int = IN_TIME_US, **options: object) -> str:
    (folder / "code.stim").write_text(TEXT)
    given = {"endless": "true", "lane": 0, "tier": '"correlated"', "accelerated": "true"}
    lines = [f"{key} = {value}" for key, value in {**given, **options}.items()]
    return "\n".join(
        [
            "[[stream]]",
            f'name = "{name}"',
            f'code = "{folder / "code.stim"}"',
            f'windows = "{GEOMETRY}"',
            f"deadline_us = {deadline_us}",
            *lines,
            "",
        ]
    )


def wait_for_accelerators(service: Service, count: int) -> None:
    for _ in range(600):
        if service.log.read_text().count(SERVES) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(service.log.read_text())


class Client:
    """Sends an endless shot, a window at a time, and keeps the commits."""

    def __init__(self, stream: Stream, rounds: int, seed: int) -> None:
        self.stream = stream
        self.records = rounds_of_a_shot(rounds, seed)
        self.sent = 0
        self.rows: list[np.ndarray] = []

    def step(self, *, last: bool = False) -> int:
        """Send the next rounds; the tier of the last window that they completed."""
        end = len(self.records) if last else self.sent + (GEOMETRY.commit if self.sent else 20)
        self.stream.send(np.ascontiguousarray(self.records[self.sent : end]), last=last)
        self.sent = end
        while self.stream.committed < end - (0 if last else 10):
            self.rows += self.stream.poll(0.05)
        return int(self.rows[-1]["tier"][-1])

    def until(self, tier: int, at_most: int = 300) -> None:
        """Go on until a tier answers."""
        for _ in range(at_most):
            if self.step() == tier:
                return
        raise AssertionError(f"tier {tier} never answers")

    @property
    def commits(self) -> np.ndarray:
        return np.concatenate(self.rows)
