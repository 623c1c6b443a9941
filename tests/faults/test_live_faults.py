"""Each fault of the table into one live service, whose every answer is checked at the end.

The service is shared, as a lab's is overnight: what one fault leaves behind, the next one meets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

import pytest

from helpers.replays import qdec
from qdec_tools.chaos.course import Injection, inject, judged
from qdec_tools.chaos.faults import FAULTS, Fault
from qdec_tools.chaos.stage import Stage

# One of each sort; the others take longer, and are looked at less often.
CORE = {
    "kill-lane",
    "kill-accelerator",
    "stop-supervisor",
    "stop-client",
    "engine-nan",
    "engine-garbage",
    "net-cut",
    "net-torn",
    "messages-lost",
    "messages-twice",
    "clock-step",
    "deaf",
}


class Night:
    """A running service, and what was done to it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.injections: list[Injection] = []


@pytest.fixture(scope="module")
def night() -> Iterator[Night]:
    """The verdict is the teardown's: nothing lost, nothing twice, nothing wrong."""
    with Stage(seed=1) as stage:
        one = Night(stage)
        yield one
        result = judged(stage, one.injections)
    assert not result.problems
    assert not result.wrongs
    for name, account in result.accounts.items():
        assert account.clean, (name, account)
        assert account.sent == account.answered > 0
        assert account.erased == 0, "clients hold every round"
    assert result.accounts["network"].by_tier["speed"] > 0


@pytest.mark.timeout(240)  # the first one starts the service, the last one has it checked
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(one, id=one.name, marks=[] if one.name in CORE else pytest.mark.slow)
        for one in FAULTS
    ],
)
def test_every_stream_is_answered_again(night: Night, fault: Fault) -> None:
    night.injections.append(inject(night.stage, fault, Random(fault.name)))


@pytest.mark.slow
def test_the_command_says_what_was_seen() -> None:
    done = qdec("chaos", "--seconds", 3, "--faults", "net-cut", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == [
        "sent",
        "answered",
        "lost",
        "twice",
        "wrong",
        "late",
        "by_tier",
        "faults",
        "recovery_s",
    ]
    assert found["sent"] == found["answered"] == sum(found["by_tier"].values()) > 0
    assert (found["lost"], found["twice"], found["wrong"]) == (0, 0, 0)
    assert found["faults"]["net-cut"] >= 1
    assert found["recovery_s"]["net-cut"] > 0


def test_unknown_faults_are_refused_before_anything_is_started() -> None:
    done = qdec("chaos", "--faults", "kill-cat")
    assert done.returncode == 2
    assert "kill-lane, kill-lanes" in done.stderr
