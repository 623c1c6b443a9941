"""What answers may change at a boundary, and every answer says what made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stim

from helpers.accelerators import stream_config
from helpers.lanes import Lane, Stream, config
from helpers.makings import Making, check
from helpers.patches import experiment
from helpers.recordings import recording
from helpers.weights import random_stack, write
from qdec.accelerator.compiled import compile_kinds
from qdec.bus.wire import Error, Opened
from qdec.config import StreamConfig, StreamDefaults
from qdec.errors import WireCode
from qdec.lane.library import Library
from qdec.match import Tier
from qdec.match.escalate import Switching
from qdec.neural.ising.network import Architecture
from qdec.neural.ising.patch import Orientation
from qdec.neural.store import SHIPPED
from qdec.neural.tensor_file import read_tensors, tensors_sha256, write_tensors

SMALL = Architecture((6, 4), (3, 3))
CIRCUIT = experiment("X", Orientation.ZV, 3, 11, 0.01)


def model(path: Path, seed: int) -> Path:
    """A network with weights that mean nothing."""
    tensors = random_stack(SMALL, seed)
    sizes = {"filters": SMALL.filters, "kernels": SMALL.kernels}
    told = {"family": "ising", "architecture": json.dumps(sizes), "sha256": tensors_sha256(tensors)}
    return write(path, tensors, told)


def opened(stream: StreamConfig, cursor: bytes = b"") -> Opened | Error:
    """What a process that has just been started says to a client."""
    reply = Stream(Lane(config(stream), library=Library())).ask(cursor=cursor)
    assert isinstance(reply, Opened | Error)
    return reply


def cursor_of(stream: StreamConfig) -> bytes:
    reply = opened(stream)
    assert isinstance(reply, Opened)
    return reply.body.cursor


def identity(reply: Opened | Error) -> str:
    assert isinstance(reply, Opened), reply
    return reply.body.identity


@pytest.fixture
def networked(tmp_path: Path) -> StreamConfig:
    path = tmp_path / "code.stim"
    path.write_text(str(CIRCUIT))
    name = str(model(tmp_path / "a.safetensors", 1))
    return StreamConfig(name="s", code=path, tier="ising", model=name, windows="6,3")


def test_another_network_is_another_making(networked: StreamConfig, tmp_path: Path) -> None:
    cursor, before = cursor_of(networked), identity(opened(networked))
    model(tmp_path / "b.safetensors", 1)
    renamed = networked.model_copy(update={"model": str(tmp_path / "b.safetensors")})
    assert identity(opened(renamed, cursor)) == before, "the same weights under another name"
    model(tmp_path / "a.safetensors", 2)
    after = identity(opened(networked, cursor))
    assert after == identity(opened(networked)) != before
    (tmp_path / "a.safetensors").unlink()
    gone = identity(opened(networked, cursor))  # matching answers, and says so
    assert gone not in (before, after)


def test_another_release_of_a_shipped_network_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the tier itself, and of one that is asked next."""
    for name in ("speed", "accuracy"):
        (tmp_path / f"{name}.safetensors").write_bytes(
            (SHIPPED / f"{name}.safetensors").read_bytes()
        )
    monkeypatch.setattr("qdec.neural.store.SHIPPED", tmp_path)
    ladder = Switching(tiers=(Tier.ACCURACY,), below=0.9)
    asked = [(Tier.SPEED, ladder), (Tier.ACCURACY, Switching()), (Tier.SPEED, Switching())]
    before = [Library().networks(tier, None, more) for tier, more in asked]
    assert len(set(before)) == 3
    file = read_tensors(tmp_path / "accuracy.safetensors")
    tensors = {name: np.negative(value) for name, value in file.tensors.items()}
    told = {**file.metadata, "sha256": tensors_sha256(tensors)}
    write_tensors(tmp_path / "accuracy.safetensors", tensors, told)
    after = [Library().networks(tier, None, more) for tier, more in asked]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]
    assert Library().networks(Tier.GUARDED) == bytes(8)


LADDER = {"tier": "matching", "accelerated": None, "escalate": ("guarded",)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (LADDER, {**LADDER, "escalate_below": 0.8}),
        (LADDER, {**LADDER, "escalate": ("correlated",)}),
        (LADDER, {**LADDER, "escalate": ()}),
        ({**LADDER, "escalate": ()}, LADDER),
    ],
    ids=str,
)
def test_another_ladder_is_another_making(before: dict[str, Any], after: dict[str, Any]) -> None:
    was, now = stream_config(**before), stream_config(**after)
    assert identity(opened(now, cursor_of(was))) == identity(opened(now)) != identity(opened(was))


def test_what_does_not_change_answers_is_no_other_making() -> None:
    """How sure answers are may be said or not; deadlines and rings are not what answers."""
    plain = stream_config(tier="matching", accelerated=None)
    more = {"confidence": True, "deadline_us": 77, "ring_rounds": 64}
    sure = plain.model_copy(update=more)
    assert identity(opened(sure, cursor_of(plain))) == identity(opened(plain, cursor_of(sure)))


def test_another_tier_takes_over_at_the_cursor(networked: StreamConfig) -> None:
    other = networked.model_copy(update={"tier": "guarded", "model": None})
    for one, another in ((networked, other), (other, networked)):
        reply = opened(another, cursor_of(one))
        assert identity(reply) == identity(opened(another)) != identity(opened(one))
        assert isinstance(reply, Opened)
        assert reply.body.tier == another.tier


def test_a_guest_keeps_its_escalation() -> None:
    rec = recording("endless")
    settings = config()
    wish = StreamDefaults(deadline_us=1_000_000_000, ring_rounds=256, escalate=("guarded",))
    laddered = settings.model_copy(update={"defaults": wish})
    cursor = rec.open(Lane(settings)).cursor
    again = Stream(Lane(laddered), b"peer", rec.code)
    reply = again.ask(cursor=cursor, code="circuit", **rec.options)
    assert isinstance(reply, Error)
    assert (reply.code, "another escalation" in reply.message) == (WireCode.BAD_CURSOR, True)


def test_an_accelerator_with_another_network_is_asked_for_nothing(
    networked: StreamConfig, tmp_path: Path
) -> None:
    before = compile_kinds(Library(), networked)
    again = compile_kinds(Library(), networked)
    model(tmp_path / "a.safetensors", 2)
    after = compile_kinds(Library(), networked)
    assert before.keys() == again.keys()
    assert not before.keys() & after.keys()


PATCH = recording("endless")


def configured(folder: Path, p: float = 0.008, **more: Any) -> StreamConfig:
    """The recording's stream, its faults p times as likely as 0.008."""
    path = folder / "patch.stim"
    path.write_text(PATCH.text.replace("0.008", str(p)))
    return StreamConfig(
        **{"name": "s", "code": path, "endless": True, "windows": "6,3", "ring_rounds": 256, **more}
    )


def answers(stream: StreamConfig, start: int, cursor: bytes = b"") -> tuple[Stream, np.ndarray]:
    """What a fresh process answers to the recording's rounds from `start` on."""
    one = Stream(Lane(config(stream), library=Library())).open(cursor=cursor)
    assert one.info is not None
    assert one.info.next_round == start
    assert one.send(start, PATCH.records[start : start + 33]) is None
    return one, one.collect()


@pytest.mark.parametrize("more", [{}, {"windows": "9,4"}, {"tier": "correlated"}], ids=str)
def test_another_making_takes_over_in_mid_shot(tmp_path: Path, more: dict[str, Any]) -> None:
    """From the cursor on, answers are those of the new one; frame and seam go over."""
    old = configured(tmp_path)
    before, first = answers(old, 0)
    (tmp_path / "new").mkdir()
    new = configured(tmp_path / "new", 0.03, **more)
    after, second = answers(new, before.retain_from, before.cursor)
    assert after.info is not None
    if "windows" in more:
        assert before.retain_from % 4
        new = new.model_copy(update={"windows": "6,3"})  # they do not begin there
    makings = [Making(old), Making(new)]
    assert int(after.info.identity, 16) == makings[1].identity != makings[0].identity
    for rows, one in zip((first, second), makings, strict=True):
        assert set(rows["made_by"]) == {one.identity}
    rows = np.concatenate([first, second])
    assert second["seam"].any() or second["frame"].any()
    check(rows, PATCH.records, {one.identity: one for one in makings})


def test_a_prior_of_other_faults_is_used_and_one_of_other_detectors_is_refused(
    tmp_path: Path,
) -> None:
    plain = configured(tmp_path)
    circuit = stim.Circuit(PATCH.text.replace("0.008", "0.03"))
    dem = circuit.detector_error_model(decompose_errors=True)
    (tmp_path / "prior.dem").write_text(str(dem))
    fitted = plain.model_copy(update={"prior": tmp_path / "prior.dem"})
    assert identity(opened(fitted)) != identity(opened(plain))
    (tmp_path / "new").mkdir()
    hotter = configured(tmp_path / "new", 0.03)
    np.testing.assert_array_equal(answers(fitted, 0)[1]["frame"], answers(hotter, 0)[1]["frame"])
    (tmp_path / "prior.dem").write_text("error(0.1) D0 L0")
    reply = opened(fitted)
    assert isinstance(reply, Error)
    assert "another code's" in reply.message
