"""The ising tier in a lane: configured, opened, answered, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.circuits import detections, memory
from helpers.lanes import Lane, Stream, config
from helpers.patches import experiment
from helpers.weights import random_stack, write
from qdec.accelerator.compiled import compile_kinds
from qdec.codes import Code
from qdec.commit import Flag
from qdec.config import StreamConfig
from qdec.errors import ConfigError
from qdec.lane.library import Library
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec.neural.ising.model import compile_model, stored_weights
from qdec.neural.ising.network import Architecture
from qdec.neural.ising.patch import Orientation
from qdec.neural.store import load_model
from qdec.neural.tensor_file import tensors_sha256
from qdec.windows import WHOLE, Geometry

SMALL = Architecture((6, 4), (3, 3))
CIRCUIT = experiment("X", Orientation.ZV, 3, 11, 0.01)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small network with weights that mean nothing, in the store's own format."""
    tensors = random_stack(SMALL, seed=3)
    sizes = {"filters": SMALL.filters, "kernels": SMALL.kernels}
    told = {"family": "ising", "architecture": json.dumps(sizes), "sha256": tensors_sha256(tensors)}
    return write(tmp_path / "small.safetensors", tensors, told)


def stream(
    folder: Path, model: str, windows: str = "6,3", circuit: object = CIRCUIT
) -> StreamConfig:
    path = folder / "code.stim"
    path.write_text(str(circuit))
    return StreamConfig(name="s", code=path, tier="ising", model=model, windows=windows)


def test_a_lane_alone_answers_by_matching_and_says_so(tmp_path: Path, model: Path) -> None:
    lane = Lane(config(stream(tmp_path, str(model))))
    one = Stream(lane).open()
    assert one.info is not None
    code = Code.from_circuit(CIRCUIT)
    records = code.layout.to_records(detections(CIRCUIT, 20)[0])
    assert one.send(0, records.reshape(-1, code.layout.record_bytes)) is None
    rows = one.collect()
    assert set(rows["tier"].tolist()) == {int(Tier.MATCHING)}
    ends = rows["flags"] & Flag.SHOT_END != 0
    decoder = OfflineDecoder(code, Tier.MATCHING, Geometry(6, 3))
    np.testing.assert_array_equal(rows["frame"][ends], decoder.decode(records)[0])


def test_the_accelerator_answers_with_the_network(tmp_path: Path, model: Path) -> None:
    kinds = compile_kinds(Library(), stream(tmp_path, str(model), "whole"))
    (kind,) = kinds.values()
    assert kind.fenced, "random weights keep no distance"
    code = Code.from_circuit(CIRCUIT)
    records = code.layout.to_records(detections(CIRCUIT, 20)[0])
    loaded = compile_model(stored_weights(load_model(str(model))))
    decoder = OfflineDecoder(code, Tier.ISING, WHOLE, model=loaded)
    answers = kind.decoder.decode(records.reshape(20, -1))
    np.testing.assert_array_equal(answers.bits[:, :1], decoder.decode(records)[0])


def test_what_cannot_be_served_is_refused_at_the_start(tmp_path: Path, model: Path) -> None:
    def refusal(one: StreamConfig) -> str:
        with pytest.raises(ConfigError, match="stream 's'") as caught:
            compile_kinds(Library(), one)
        return str(caught.value)

    assert "no model 'nobody'" in refusal(stream(tmp_path, "nobody"))
    assert "looks 2 rounds ahead" in refusal(stream(tmp_path, str(model), "4,3"))
    repetition = memory("repetition_code:memory", rounds=11)
    assert "one rotated surface code patch" in refusal(
        stream(tmp_path, str(model), circuit=repetition)
    )
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    assert "SHA-256" in refusal(stream(tmp_path, str(model)))


def test_guests_are_answered_by_matching() -> None:
    lane = Lane(config())
    guest = Stream(lane, code=(str(CIRCUIT).encode(),)).open(code="circuit", tier="ising")
    assert guest.info is not None
    assert any("matching answers" in note for note in guest.info.notes)
