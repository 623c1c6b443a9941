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
from qdec.bus.wire import Error
from qdec.codes import Code
from qdec.commit import Flag
from qdec.config import StreamConfig
from qdec.errors import ConfigError, WireCode
from qdec.lane.library import Library
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec.neural.ising.model import compile_model, stored_weights
from qdec.neural.ising.network import Architecture
from qdec.neural.ising.patch import Orientation
from qdec.neural.store import load_model
from qdec.neural.tensor_file import tensors_sha256
from qdec.windows import Geometry

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


@pytest.mark.parametrize("windows", ["6,3", "whole"])
def test_a_configured_stream_is_answered_by_its_network(
    tmp_path: Path, model: Path, windows: str
) -> None:
    lane = Lane(config(stream(tmp_path, str(model), windows)))
    one = Stream(lane).open()
    assert one.info is not None
    assert one.info.tier == "ising"
    code = Code.from_circuit(CIRCUIT)
    records = code.layout.to_records(detections(CIRCUIT, 20)[0])
    assert one.send(0, records.reshape(-1, code.layout.record_bytes)) is None
    rows = one.collect()
    assert set(rows["tier"].tolist()) == {int(Tier.ISING)}
    ends = rows["flags"] & Flag.SHOT_END != 0
    loaded = compile_model(stored_weights(load_model(str(model))))
    geometry = Geometry(6, 3) if windows == "6,3" else Geometry(0, 0)
    decoder = OfflineDecoder(code, Tier.ISING, geometry, model=loaded)
    np.testing.assert_array_equal(rows["frame"][ends], decoder.decode(records)[0])
    assert (rows["flags"] & Flag.FENCED).all(), "random weights keep no distance"


def test_what_cannot_be_served_is_refused_at_the_start(tmp_path: Path, model: Path) -> None:
    def refusal(one: StreamConfig) -> str:
        with pytest.raises(ConfigError, match="stream 's'") as caught:
            Library().warm(one, 1 << 24)
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


def test_guests_cannot_have_it_unless_the_service_names_a_model(model: Path) -> None:
    lane = Lane(config())
    reply = Stream(lane, code=(str(CIRCUIT).encode(),)).ask(code="circuit", tier="ising")
    assert isinstance(reply, Error)
    assert reply.code == WireCode.BAD_OPTION
    assert "needs a model" in reply.message
    settings = config()
    defaults = settings.defaults.model_copy(update={"model": str(model)})
    lane = Lane(settings.model_copy(update={"defaults": defaults}))
    guest = Stream(lane, code=(str(CIRCUIT).encode(),)).open(code="circuit", tier="ising")
    assert guest.info is not None
    assert guest.info.tier == "ising"
