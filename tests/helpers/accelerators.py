"""A lane and an accelerator in one thread: their memory, their clock and their fates in hand."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from helpers.lanes import LIBRARY, Lane, Stream, config
from helpers.services import CODE, GEOMETRY, TEXT
from qdec.accelerator.compiled import compile_kinds
from qdec.accelerator.exchange import EXCHANGE_BYTES, Exchange
from qdec.accelerator.link import Link
from qdec.accelerator.stats import AcceleratorStats
from qdec.accelerator.worker import Worker
from qdec.commit.dense import answered_by
from qdec.config import Config, StreamConfig
from qdec.match.replay import Replay

DEADLINE_NS = 100_000_000
_FOLDER = Path(tempfile.mkdtemp(prefix="qdec-tests-"))
_REPLAY = Replay(CODE, GEOMETRY)


def stream_config(name: str = "s", **options: object) -> StreamConfig:
    """An accelerated stream of the tests' small code."""
    path = _FOLDER / "code.stim"
    path.write_text(TEXT)
    given: dict[str, object] = {
        "name": name,
        "code": path,
        "endless": True,
        "tier": "correlated",
        "accelerated": True,
        "windows": str(GEOMETRY),
        "deadline_us": DEADLINE_NS // 1000,
        "ring_rounds": 512,
    }
    return StreamConfig.model_validate({**given, **options})


class Pair:
    """A lane, linked to an accelerator that does something only when told to."""

    def __init__(self, *streams: StreamConfig, batch: int = 64) -> None:
        """Both serve; the accelerator knows the streams' windows."""
        self.streams = streams or (stream_config(),)
        self.batch = batch
        self.memory = bytearray(EXCHANGE_BYTES)
        self.words = AcceleratorStats()
        self.bells = 0
        self.exchange = Exchange(self.memory)
        self.kinds = {k: v for one in self.streams for k, v in self._kinds(one).items()}
        self.generation = 0
        self.lane = Lane(self.settings, link=self.link())
        self.serve()

    @staticmethod
    def _kinds(stream: StreamConfig) -> dict:
        return compile_kinds(LIBRARY, stream)

    @property
    def settings(self) -> Config:
        return config(*self.streams)

    def link(self) -> Link:
        def ring() -> None:
            self.bells += 1

        return Link(self.exchange, self.words, ring)

    def open(self, name: str = "s", **options: object) -> Stream:
        return Stream(self.lane, peer=name.encode()).open(stream=name, **options)

    def serve(self) -> None:
        """Another accelerator is there."""
        self.generation += 1
        self.worker = Worker(
            [self.exchange],
            self.kinds,
            self.generation,
            batch=self.batch,
            stats=self.words,
            clock=lambda: self.lane.now,
        )
        self.beat()
        self.words.generation = self.generation

    def beat(self) -> None:
        self.words.beat_ns = self.lane.now

    def die(self) -> None:
        self.words.generation = 0
        self.worker = None

    def turn(self) -> None:
        """Let the accelerator, if there is one, answer a batch."""
        if self.worker is not None:
            self.beat()
            self.worker.collect()
            self.worker.turn()

    def settle(self) -> None:
        """Let both work until neither has anything to do."""
        for _ in range(1000):
            self.lane.work()
            self.turn()
            if not self.lane.core.awaiting and not self.lane.core.waiting:
                return
        raise AssertionError("it goes on for ever")

    @property
    def fallbacks(self) -> dict[str, int]:
        return {k: n for k, n in self.lane.stats["fallbacks"].items() if n}


def as_replayed(rows: np.ndarray, shots: list[np.ndarray]) -> None:
    """Assert that commits are what replays of their shots with the recorded tiers give."""
    assert rows["window"].tolist() == list(range(len(rows)))
    base = at = 0
    for records in shots:
        mine = rows[(rows["first_round"] >= base) & (rows["first_round"] < base + len(records))]
        tiers = [(answered_by(r["tier"], int(r["flags"])), int(r["count"])) for r in mine]
        replayed = list(_REPLAY.shot(records, tiers))
        for one, row in zip(replayed, mine, strict=True):
            np.testing.assert_array_equal(row["frame"], one.frame)
            np.testing.assert_array_equal(row["seam"], one.seam)
        base += len(records)
        at += len(mine)
    assert at == len(rows)
