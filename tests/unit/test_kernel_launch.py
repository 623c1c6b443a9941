"""Where kernels cannot be launched, or must not be, somebody is told why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qdec.cuda.compile import DIGEST, sources_digest
from qdec.cuda.launch import KERNELS, Kernels, check_folder
from qdec.errors import EngineError


def test_without_cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(EngineError, match=r"pip install 'qdec\[gpu\]'"):
        Kernels(tmp_path)


def compiled(folder: Path) -> Path:
    """As `compile_kernels` leaves it, but for the code."""
    folder.mkdir(mode=0o755)
    for name in KERNELS:
        (folder / f"{name}.fatbin").write_bytes(b"code")
    (folder / DIGEST).write_text(sources_digest())
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def test_kernels_of_this_version_that_nobody_else_could_write_are_loaded(tmp_path: Path) -> None:
    check_folder(compiled(tmp_path / "kernels"))


def test_others_are_not(tmp_path: Path) -> None:
    folder = compiled(tmp_path / "kernels")
    (folder / DIGEST).write_text("0" * 64)
    with pytest.raises(EngineError, match="another version"):
        check_folder(folder)
    (folder / DIGEST).unlink()
    with pytest.raises(EngineError, match="not there: make kernels"):
        check_folder(folder)
    folder = compiled(tmp_path / "others")
    (folder / "edges.fatbin").chmod(0o666)
    with pytest.raises(EngineError, match="others can write"):
        check_folder(folder)
