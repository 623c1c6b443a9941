"""Plans on disk: what is read back, and what is not trusted."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdec.errors import EngineError
from qdec.neural.tensorrt import cache
from qdec.neural.tensorrt.api import Api
from qdec.neural.tensorrt.build import Recipe

API = Api(None, "tensorrt", "11.4.0")
RECIPE = Recipe(b"a model", (5, 3, 3), (1, 8))
KEY = cache.key_of(RECIPE, API, "H200", (9, 0))
PLAN = bytes(range(256)) * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "plans"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_plan_is_read_back_and_is_nobody_elses(folder: Path) -> None:
    assert cache.read(folder, KEY) == (None, "")
    path = cache.write(folder, KEY, PLAN)
    assert cache.read(folder, KEY) == (PLAN, "")
    assert (mode(folder), mode(path)) == (0o700, 0o600)
    (entry,) = cache.entries(folder)
    assert (entry.key, entry.problem) == (KEY, "")
    assert cache.clear(folder) == 1
    assert cache.read(folder, KEY) == (None, "")
    assert list(cache.entries(folder)) == []


def test_everything_that_a_plan_depends_on_is_in_its_key(folder: Path) -> None:
    others = [
        cache.key_of(Recipe(b"another", (5, 3, 3), (1, 8)), API, "H200", (9, 0)),
        cache.key_of(Recipe(b"a model", (6, 3, 3), (1, 8)), API, "H200", (9, 0)),
        cache.key_of(Recipe(b"a model", (5, 3, 3), (1, 64)), API, "H200", (9, 0)),
        cache.key_of(Recipe(b"a model", (5, 3, 3), (1, 8), "int8"), API, "H200", (9, 0)),
        cache.key_of(Recipe(b"a model", (5, 3, 3), (1, 8), io="fp16"), API, "H200", (9, 0)),
        cache.key_of(RECIPE, API, "H100", (9, 0)),
        cache.key_of(RECIPE, API, "H200", (8, 9)),
        cache.key_of(RECIPE, Api(None, "tensorrt", "11.3.0"), "H200", (9, 0)),
        cache.key_of(RECIPE, Api(None, "tensorrt-rtx", "11.4.0"), "H200", (9, 0)),
    ]
    cache.write(folder, KEY, PLAN)
    assert len({cache.path_of(folder, key) for key in [KEY, *others]}) == len(others) + 1
    assert all(cache.read(folder, key) == (None, "") for key in others)


def test_a_plan_under_another_name_is_not_taken(folder: Path) -> None:
    other = {**KEY, "gpu": "H100"}
    cache.write(folder, other, PLAN).rename(cache.path_of(folder, KEY))
    plan, why = cache.read(folder, KEY)
    assert plan is None
    assert "something else" in why
    assert "another plan" in next(cache.entries(folder)).problem


@settings(max_examples=150)
@given(st.data())
def test_damage_anywhere_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cache", numbered=True)
    folder.chmod(0o700)
    path = cache.write(folder, KEY, PLAN)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    path.write_bytes(bytes(content))
    plan, why = cache.read(folder, KEY)
    assert plan is None
    assert why


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b"[" * 60_000,
        b'{"key": {}, "sha256": "", "bytes": -1}',
        b'{"key": {}, "sha256": "", "bytes": 1e999}',
        b'{"key": [], "sha256": "", "bytes": 1}',
        json.dumps({"key": {}, "sha256": "", "bytes": 1 << 62}).encode(),
    ],
)
def test_headers_of_another_form_are_refused(folder: Path, header: bytes) -> None:
    path = cache.write(folder, KEY, PLAN)
    path.write_bytes(cache.MAGIC + len(header).to_bytes(4, "little") + header)
    plan, why = cache.read(folder, KEY)
    assert plan is None
    assert "not a plan" in why


def test_a_file_that_claims_to_be_huge_is_not_read(folder: Path) -> None:
    path = cache.write(folder, KEY, PLAN)
    os.truncate(path, cache.MAX_PLAN_BYTES + cache.MAX_HEADER_BYTES + 13)
    assert "too many" in cache.read(folder, KEY)[1]
    path.write_bytes(cache.MAGIC + b"\xff\xff\xff\xff")
    assert "not a plan" in cache.read(folder, KEY)[1]


def test_what_others_could_have_written_is_not_taken(folder: Path, tmp_path: Path) -> None:
    path = cache.write(folder, KEY, PLAN)
    path.chmod(0o620)
    assert "others can write" in cache.read(folder, KEY)[1]
    path.chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert "cannot read" in cache.read(folder, KEY)[1]
    path.unlink()
    os.mkfifo(path)  # reading one would wait for somebody to write
    assert "others can write" in cache.read(folder, KEY)[1]
    folder.chmod(0o777)
    for use in (
        lambda: cache.read(folder, KEY),
        lambda: cache.write(folder, KEY, PLAN),
        lambda: list(cache.entries(folder)),
        lambda: cache.clear(folder),
    ):
        with pytest.raises(EngineError, match="chmod 700"):
            use()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot make"):
        cache.write(tmp_path / "file" / "plans", KEY, PLAN)
