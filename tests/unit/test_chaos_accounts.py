"""The harness's own books: they have to be able to come out wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from qdec.bits import Bytes
from qdec.bus.records import commit_dtype
from qdec.cli import app
from qdec.client import Commits
from qdec.codes import Part
from qdec.commit import Flag
from qdec.errors import DataError
from qdec.match import Tier
from qdec.match.replay import Replay
from qdec.match.tier import CompiledWindow
from qdec.windows import choose_geometry, parse_geometry
from qdec.windows.geometry import Window, window_at
from qdec_tools.chaos.accounts import Account, Judge
from qdec_tools.chaos.command import chosen
from qdec_tools.chaos.engine import garble
from qdec_tools.chaos.faults import BY_NAME
from qdec_tools.chaos.patches import Patch

ENDLESS = Patch("endless", 3, "12,6", noise=0.02)
SHOTS = Patch("shots", 3, "whole", noise=0.02, shot_rounds=6)
SHARED = replace(ENDLESS, lanes=(0, 1))
NETWORK = replace(ENDLESS, windows="8,3", tier="speed", accelerated=True)
ROUNDS = 240


def rounds_of(patch: Patch) -> Bytes:
    return patch.detectors(seed=3, rounds=ROUNDS - ROUNDS % (patch.length or 1))


def delivered(
    patch: Patch, detectors: Bytes, tiers: Callable[[int], Tier], changed: bool = False
) -> Commits:
    """What an undisturbed service would have handed over."""
    geometry = choose_geometry(
        parse_geometry(patch.windows), patch.code, endless=not patch.shot_rounds
    )
    parts = patch.code.split(len(patch.lanes)) if len(patch.lanes) > 1 else ()

    class Service(Replay):
        def compile(self, window: Window, tier: Tier, part: Part | None) -> CompiledWindow:
            decoder = super().compile(window, tier, part)
            if changed:
                garble(decoder)
            return decoder

    replay = Service(patch.code, geometry, parts=parts)
    dtype = commit_dtype(len(replay.beginning.frame), len(replay.beginning.seam))
    rows: list[np.void] = []
    at = 0
    while at < len(detectors):
        base = at - at % patch.length if patch.length else 0
        shot = detectors[base : base + patch.length] if patch.length else detectors
        if at == base:
            before = replay.beginning
        count = window_at(geometry, at - base, len(shot)).commit
        before = replay.window(shot, at - base, tiers(len(rows)), count, before)
        row = np.zeros((), dtype)
        row["window"], row["first_round"], row["count"] = len(rows), at, count
        row["tier"], row["t_send"] = tiers(len(rows)), 1000 * len(rows)
        row["frame"], row["seam"] = before.frame, before.seam
        rows.append(row)
        at += count
    return np.array(rows, dtype)


def plain(_: int) -> Tier:
    return Tier.MATCHING


@pytest.fixture(params=[ENDLESS, SHOTS, SHARED], ids=lambda patch: patch.name)
def patch(request: pytest.FixtureRequest) -> Patch:
    found: Patch = request.param
    return found


@pytest.fixture
def detectors(patch: Patch) -> Bytes:
    return rounds_of(patch)


@pytest.fixture
def rows(patch: Patch, detectors: Bytes) -> Commits:
    return delivered(patch, detectors, plain)


def test_what_is_right_is_clean(patch: Patch, detectors: Bytes, rows: Commits) -> None:
    found = Judge(patch).account(rows, detectors)
    assert found == Account(len(rows), len(rows), by_tier=found.by_tier)
    assert found.by_tier == {"matching": len(rows)}
    assert found.clean


@pytest.mark.parametrize("where", [0, 7, -1])
@pytest.mark.parametrize("name", ["frame", "seam"])
def test_a_doctored_answer_is_wrong_and_nothing_else_is(
    patch: Patch, detectors: Bytes, rows: Commits, name: str, where: int
) -> None:
    if not rows[name].size:
        pytest.skip("whole shots have no seam")
    rows[name][where] ^= 1
    lines: list[str] = []
    found = Judge(patch).account(rows, detectors, lines.append)
    # The window behind it was handed what it says, so it may differ as well.
    assert 1 <= found.wrong <= 2
    assert found.lost == found.twice == 0
    assert not found.clean
    assert len(lines) == found.wrong


@pytest.mark.parametrize("where", [0, 7, -1])
def test_a_dropped_answer_is_lost(
    patch: Patch, detectors: Bytes, rows: Commits, where: int
) -> None:
    found = Judge(patch).account(np.delete(rows, where), detectors)
    assert (found.lost, found.twice, found.wrong) == (1, 0, 0)
    assert found.sent == len(rows) == found.answered + 1


def test_all_dropped_are_lost(patch: Patch, detectors: Bytes, rows: Commits) -> None:
    found = Judge(patch).account(rows[:0], detectors)
    assert found.lost == found.sent == len(rows)


@pytest.mark.parametrize("later", [1, 5])
def test_a_repeated_answer_is_twice(
    patch: Patch, detectors: Bytes, rows: Commits, later: int
) -> None:
    again = np.insert(rows, 7 + later, rows[7])
    found = Judge(patch).account(again, detectors)
    assert (found.lost, found.twice, found.wrong) == (0, 1, 0)
    assert found.answered == len(rows)


def test_an_answer_behind_a_later_one_is_lost(
    patch: Patch, detectors: Bytes, rows: Commits
) -> None:
    rows[[7, 8]] = rows[[8, 7]]
    found = Judge(patch).account(rows, detectors)
    assert found.lost == 1


def test_rounds_that_no_window_covers_are_wrong() -> None:
    """Numbers go on without a hole, rounds do not."""
    detectors = rounds_of(ENDLESS)
    rows = np.delete(delivered(ENDLESS, detectors, plain), 7)
    rows["window"] = np.arange(len(rows))
    found = Judge(ENDLESS).account(rows, detectors)
    assert (found.lost, found.twice, found.wrong) == (0, 0, 1)


def test_flags_are_counted(patch: Patch, detectors: Bytes, rows: Commits) -> None:
    rows["flags"][3] = Flag.LATE
    rows["flags"][4] = Flag.LATE | Flag.PREEMPTED
    rows["flags"][5] = Flag.ERASURE
    found = Judge(patch).account(rows, detectors)
    assert (found.late, found.preempted, found.erased) == (2, 1, 1)


def test_tiers_take_turns_and_each_answers_for_itself() -> None:
    detectors = rounds_of(NETWORK)
    turns = [Tier.SPEED, Tier.MATCHING, Tier.CORRELATED]
    rows = delivered(NETWORK, detectors, lambda n: turns[n % 3])
    assert Judge(NETWORK).account(rows, detectors).clean
    rows["tier"] = Tier.MATCHING
    assert Judge(NETWORK).account(rows, detectors).wrong


def test_a_garbled_network_is_excused_while_it_was_garbled() -> None:
    detectors = rounds_of(NETWORK)
    rows = delivered(NETWORK, detectors, lambda _: Tier.SPEED, changed=True)
    honest = Judge(NETWORK).account(rows, detectors).wrong
    assert honest > 1, "garbling changes answers"
    ever = [(0, 1 << 62)]
    assert Judge(NETWORK, garble, ever).account(rows, detectors).clean
    early = [(0, 1000 * len(rows) // 2)]
    assert 0 < Judge(NETWORK, garble, early).account(rows, detectors).wrong < honest


def test_unknown_faults_are_refused_with_the_list() -> None:
    assert [fault.name for fault in chosen("net-cut, kill-lane")] == ["net-cut", "kill-lane"]
    assert len(chosen(None)) == len(BY_NAME)
    with pytest.raises(DataError, match=r"no fault 'kill-cat': there are kill-lane, "):
        chosen("net-cut,kill-cat")


def test_help_lists_every_fault() -> None:
    words = CliRunner().invoke(app, ["chaos", "--help"], env={"COLUMNS": "200"}).output
    assert set(BY_NAME) <= set(re.findall(r"[a-z]+(?:-[a-z]+)?", words))
