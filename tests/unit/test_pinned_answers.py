"""A stream is resumed only where the same rounds get the same answers as before the break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.accelerators import stream_config
from helpers.lanes import Lane, Stream, config
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


def refusal(reply: Opened | Error) -> str:
    assert isinstance(reply, Error)
    assert reply.code == WireCode.BAD_CURSOR
    return reply.message


@pytest.fixture
def networked(tmp_path: Path) -> StreamConfig:
    path = tmp_path / "code.stim"
    path.write_text(str(CIRCUIT))
    name = str(model(tmp_path / "a.safetensors", 1))
    return StreamConfig(name="s", code=path, tier="ising", model=name, windows="6,3")


def test_a_replaced_network_is_noticed(networked: StreamConfig, tmp_path: Path) -> None:
    cursor = cursor_of(networked)
    model(tmp_path / "b.safetensors", 1)
    renamed = networked.model_copy(update={"model": str(tmp_path / "b.safetensors")})
    assert isinstance(opened(renamed, cursor), Opened), "the same weights under another name"
    model(tmp_path / "a.safetensors", 2)
    assert "another network" in refusal(opened(networked, cursor))
    assert isinstance(opened(networked, cursor_of(networked)), Opened)


def test_a_network_that_is_gone_is_noticed(networked: StreamConfig, tmp_path: Path) -> None:
    cursor = cursor_of(networked)
    (tmp_path / "a.safetensors").unlink()
    assert isinstance(opened(networked), Opened), "matching answers, and says so"
    assert "another network" in refusal(opened(networked, cursor))


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
def test_another_escalation_is_noticed(before: dict[str, Any], after: dict[str, Any]) -> None:
    words = refusal(opened(stream_config(**after), cursor_of(stream_config(**before))))
    assert "another escalation" in words
    assert "matching" in words


def test_what_does_not_change_answers_is_no_reason() -> None:
    """How sure answers are may be said or not; and who answers instead of a tier says so itself."""
    plain = stream_config(tier="matching", accelerated=None)
    sure = stream_config(tier="matching", accelerated=None, confidence=True)
    assert isinstance(opened(sure, cursor_of(plain)), Opened)
    assert isinstance(opened(plain, cursor_of(sure)), Opened)
    ladder = stream_config(**{**LADDER, "escalate_below": 0.7})
    assert isinstance(opened(ladder, cursor_of(ladder)), Opened)


def test_a_stream_that_gets_another_tier_goes_on_without_its_network(
    networked: StreamConfig,
) -> None:
    """Matching answers then, as every commit says; there is nothing to mistake it for."""
    other = networked.model_copy(update={"tier": "matching", "model": None})
    reply = opened(other, cursor_of(networked))
    assert isinstance(reply, Opened)
    assert any("matching answers" in note for note in reply.body.notes)


def test_a_guest_is_told_that_defaults_have_changed() -> None:
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
