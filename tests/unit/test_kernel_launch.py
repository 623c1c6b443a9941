"""Where kernels cannot be launched, somebody is told what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qdec.cuda.launch import Kernels
from qdec.errors import EngineError


def test_without_cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(EngineError, match=r"pip install 'qdec\[gpu\]'"):
        Kernels(tmp_path)
