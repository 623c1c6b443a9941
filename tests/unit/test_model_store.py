"""Models on disk: imported whole or not at all, and never used unless the hash is right."""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from helpers.weights import Tensors, metadata, random_stack, write
from qdec.cli import app
from qdec.errors import ModelError
from qdec.match import SOFT
from qdec.match.models import served
from qdec.neural import store, tensor_file
from qdec.neural.ising.model import stored_weights
from qdec.neural.ising.network import PUBLISHED
from qdec.neural.store import default_folder, find_model, import_model, list_models, load_model
from qdec.neural.tensor_file import read_header, read_tensors, tensors_sha256, write_tensors

FAST = random_stack(PUBLISHED[1], seed=4)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return write(tmp_path / "predecoder.safetensors", FAST, metadata(1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "models"


def own(path: Path, **changes: str | None) -> Path:
    """A model of a family of our own, with all that its training tells."""
    tensors: Tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    told = {
        "family": "folded",
        "architecture": '{"width": 8}',
        "noise": "uniform",
        "distances": "3-9",
        "shots_seen": "1000000",
        "seed": "5",
        "ler": '[{"distance": 5, "ler": 0.01}]',
        "sha256": tensors_sha256(tensors),
    }
    kept = {key: value for key, value in (told | changes).items() if value is not None}
    return write(path, tensors, kept)


def test_a_published_file_is_kept_listed_and_loaded(published: Path, folder: Path) -> None:
    info = import_model(published, folder=folder)
    assert (info.name, info.family, info.origin) == ("ising-1", "ising", "imported")
    assert info.parameters == 912_772
    assert info.told["model_version"] == metadata(1)["model_version"]
    assert [one for one in list_models(folder) if one.origin == "imported"] == [info]
    weights = stored_weights(load_model("ising-1", folder))
    assert weights.architecture == PUBLISHED[1]
    np.testing.assert_array_equal(weights.biases[1], FAST["net.3.bias"].astype(np.float32))
    assert load_model(str(info.path), Path("/nonexistent")).info.sha256 == info.sha256
    assert import_model(published, folder=folder) == info, "twice is once"


def test_a_model_of_our_own_is_kept_with_what_it_tells(tmp_path: Path, folder: Path) -> None:
    info = import_model(own(tmp_path / "small.safetensors"), folder=folder)
    row = info.as_row()
    assert (row["name"], row["family"], row["architecture"]) == ("small", "folded", {"width": 8})
    assert row["ler"] == [{"distance": 5, "ler": 0.01}]
    assert (row["noise"], row["seed"], row["shots_seen"]) == ("uniform", "5", "1000000")
    json.dumps(row)
    with pytest.raises(ModelError, match="family 'folded'"):
        stored_weights(load_model("small", folder))


def test_names_are_not_taken_twice(published: Path, folder: Path, tmp_path: Path) -> None:
    import_model(published, folder=folder, name="fast")
    other = write(tmp_path / "o.safetensors", random_stack(PUBLISHED[1], seed=9), metadata(1))
    with pytest.raises(ModelError, match="another model 'fast'"):
        import_model(other, folder=folder, name="fast")
    for name in ("../up", "Fast", ".hidden", "a/b", "x" * 65, "-rf"):
        with pytest.raises(ModelError, match="no name for a model"):
            import_model(published, folder=folder, name=name)
    assert len(list(folder.iterdir())) == 1, "and nothing half-written is left"


@pytest.mark.parametrize("change", ["tensor", "hash", "none"])
def test_a_model_that_was_changed_is_not_used(published: Path, folder: Path, change: str) -> None:
    path = import_model(published, folder=folder).path
    file = read_tensors(path)
    tensors, told = dict(file.tensors), dict(file.metadata)
    if change == "tensor":
        tensors["net.3.bias"] = tensors["net.3.bias"].copy()
        tensors["net.3.bias"][0] += 1
    elif change == "hash":
        told["sha256"] = "0" * 64
    else:
        del told["sha256"]
    write_tensors(path, tensors, told)
    with pytest.raises(ModelError, match=r"SHA-256|lacks sha256"):
        load_model("ising-1", folder)


def test_a_shipped_model_is_found_by_name(
    tmp_path: Path, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    own(tmp_path / "shipped" / "speed.safetensors")
    assert find_model("speed", folder).origin == "shipped"
    assert load_model("speed", folder).file.tensors["w"].shape == (2, 3)
    with pytest.raises(ModelError, match="another model 'speed'"):
        import_model(published, folder=folder, name="speed")
    with pytest.raises(ModelError, match="knows speed"):
        find_model("accuracy", folder)


def test_the_default_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "qdec" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_folder() == Path.home() / ".local" / "share" / "qdec" / "models"


def header(text: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + rest


BAD_FILES = {
    "empty": b"",
    "text": b"not a model at all, but a line of text",
    "huge header": struct.pack("<Q", 1 << 60) + b"{}",
    "no JSON": header(b"{]"),
    "deep JSON": header(b'{"a":' + b"[" * 100_000),
    "a list": header(b"[1, 2]"),
    "metadata of numbers": header(b'{"__metadata__": {"model_id": 1}}'),
    "a tensor without a shape": header(b'{"w": 3}'),
    "beyond the end": header(b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', b"\0" * 8),
    "a shape that lies": header(
        b'{"w":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,8]}}', b"\0" * 8
    ),
    "negative": header(b'{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}', b"\0" * 8),
    "a type NumPy lacks": header(
        b'{"w":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}', b"\0" * 8
    ),
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_files_that_are_none_are_refused(tmp_path: Path, folder: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        import_model(path, folder=folder)
    assert not folder.exists()
    # Among the imported ones it is listed, with the reason, and does not hide the others.
    (one,) = (one for one in list_models(tmp_path) if one.origin == "imported")
    assert one.problem
    with pytest.raises(ModelError):
        load_model("bad", tmp_path)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(text: bytes, rest: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        for content in (text, header(text, rest)):
            path.write_bytes(content)
            for read in (read_header, read_tensors):
                with contextlib.suppress(ModelError):
                    read(path)


def test_what_is_too_large_is_refused_unread(
    published: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "MAX_FILE_BYTES", 1 << 20)
    with pytest.raises(ModelError, match="the limit is 1,048,576"):
        import_model(published, folder=folder)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the model"):
        import_model(tmp_path / "nothing.safetensors")
    with pytest.raises(ModelError, match="cannot read the model"):
        import_model(tmp_path)
    with pytest.raises(ModelError, match="no model 'nothing'"):
        find_model("nothing", tmp_path)


def test_own_models_without_their_hash_are_not_imported(tmp_path: Path, folder: Path) -> None:
    for changes in ({"sha256": None}, {"sha256": "0" * 64}, {"family": None}):
        with pytest.raises(ModelError):
            import_model(own(tmp_path / "m.safetensors", **changes), folder=folder)
    with pytest.raises(ModelError, match="not JSON"):
        import_model(own(tmp_path / "m.safetensors", ler="{"), folder=folder)
    assert not list(folder.glob("*"))


def test_the_commands(published: Path, folder: Path) -> None:
    run = CliRunner().invoke
    kept = ["--models", str(folder)]
    result = run(app, ["model", "import", str(published), "--name", "fast", *kept])
    assert result.exit_code == 0, result.output
    assert "912,772 parameters" in result.output
    listed = run(app, ["model", "list", "--json", *kept])
    assert listed.exit_code == 0
    rows = {row["name"]: row for row in json.loads(listed.output)}
    assert rows["fast"]["family"] == "ising"
    assert rows["fast"]["architecture"] == {"filters": [128, 128, 128, 4], "kernels": [3] * 4}
    assert "fast" in run(app, ["model", "list", *kept]).output
    (folder / "broken.safetensors").write_bytes(b"?")
    broken = run(app, ["model", "list", *kept])
    assert broken.exit_code == 1
    assert "broken" in broken.output


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("null", "architecture"),
        ('{"width": Infinity, "inner": 8, "blocks": 1, "classes": [[], []]}', "architecture"),
        ('{"width": 8, "inner": 8, "blocks": 0, "classes": [[[0,0,0]], []]}', "lacks"),
    ],
)
def test_own_models_are_checked_before_they_are_kept(
    tmp_path: Path, architecture: str, words: str
) -> None:
    tensors = {"head.bias": np.zeros(3, dtype=np.float32)}
    told = {"family": "folded", "architecture": architecture, "sha256": tensors_sha256(tensors)}
    path = tmp_path / "odd.safetensors"
    write_tensors(path, tensors, told)
    with pytest.raises(ModelError, match=words):
        import_model(path, folder=tmp_path / "kept", check=served)
    assert not (tmp_path / "kept").exists()


def test_shipped_models_are_sound_and_small() -> None:
    shipped = [one for one in list_models() if one.origin == "shipped"]
    assert {tier.label for tier in SOFT} <= {one.name for one in shipped}
    assert sum(one.size for one in shipped) < 20_000_000
    for one in shipped:
        served(load_model(str(one.path)))
