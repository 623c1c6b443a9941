"""Codes, priors and tiers exchanged under a stream that goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from helpers.makings import Making, check
from helpers.services import PATIENT, serving_pid, wait_for_log
from qdec.client import Stream, open_stream
from qdec.codes import Code
from qdec.config import load_config
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import Service, running_service

FRAME, PAUSE_S = 20, 0.01


class Player:
    """Plays an endless patch at a steady pace, and keeps what was sent and what was answered."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._sampler = EndlessSampler(Code.parse("circuit", str(memory(3, 8, 0.006))), 5)
        self.records: list[np.ndarray] = []
        self.rows: list[np.ndarray] = []

    def until(self, made_by: int) -> None:
        """Go on until a window has been made by this, and a little longer."""
        give_up = time.monotonic() + 60
        while not self.rows or self.rows[-1]["made_by"][-1] != made_by:
            assert time.monotonic() < give_up, "it never took over"
            self.step()
        self.play(0.3)

    def play(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()

    def step(self) -> None:
        self.records.append(self._sampler.next(FRAME))
        self.stream.send(self.records[-1])
        self.rows += self.stream.poll(PAUSE_S)

    def check(self, *makings: Making) -> np.ndarray:
        """Assert that every window has the answer of what is said to have made it; all windows."""
        rows = np.concatenate(self.rows)
        check(rows, np.concatenate(self.records), {one.identity: one for one in makings})
        return rows


def write_code(path: Path, p: float, d: int = 3) -> None:
    path.write_text(str(memory(d, 8, p)))


def table(path: Path, tier: str = "matching") -> str:
    return (
        f'[[stream]]\nname = "patch"\ncode = "{path}"\nendless = true\nwindows = "20,10"\n'
        f'deadline_us = 1000000\ntier = "{tier}"\n'
    )


def making(service: Service) -> Making:
    return Making(load_config(service.config).stream[0])


def reload(service: Service) -> None:
    os.kill(service.pid, signal.SIGHUP)


@contextmanager
def playing(folder: Path) -> Iterator[tuple[Service, Path, Player, Making]]:
    """A service with a code's file, somebody who plays, and what makes the answers so far."""
    code = folder / "code.stim"
    write_code(code, 0.003)
    with (
        running_service(tables=table(code), spare_lanes=1) as service,
        open_stream(service.endpoint, "patch", patience=PATIENT) as stream,
    ):
        player, first = Player(stream), making(service)
        player.until(first.identity)
        yield service, code, player, first


def test_priors_and_tiers_change_under_a_stream_that_goes_on(tmp_path: Path) -> None:
    with playing(tmp_path) as (service, code, player, first):
        write_code(code, 0.02)
        second = making(service)
        assert second.identity != first.identity
        player.play(0.2)
        assert set(player.rows[-1]["made_by"]) == {first.identity}, "files alone change nothing"
        reload(service)
        player.until(second.identity)

        service.config.write_text(service.config.read_text().replace("matching", "guarded"))
        third = making(service)
        reload(service)
        player.until(third.identity)
        assert player.stream.info.tier == "guarded"
        assert player.stream.resumes == 2

        write_code(code, 0.003, d=5)
        reload(service)
        while "rounds of patch would look otherwise" not in service.log.read_text():
            player.step()
        code.write_text("not a circuit")
        reload(service)
        while service.log.read_text().count("the old one stays") < 2:
            player.step()
        player.play(0.3)
        assert player.stream.resumes == 2

        rows = player.check(first, second, third)
        order = [int(one) for one in dict.fromkeys(rows["made_by"].tolist())]
        assert order == [first.identity, second.identity, third.identity]
        assert not (rows["flags"] & 2).any(), "none is late"


def test_a_change_whose_process_dies_is_taken_back(tmp_path: Path) -> None:
    with playing(tmp_path) as (service, code, player, first):
        write_code(code, 0.02)
        second = making(service)
        reload(service)
        player.until(second.identity)
        os.kill(serving_pid(service), signal.SIGKILL)
        player.until(first.identity)
        wait_for_log(service, "is taken back")
        rows = player.check(first, second)
        changes = np.flatnonzero(np.diff(rows["made_by"].astype(np.int64)))
        assert len(changes) == 2
