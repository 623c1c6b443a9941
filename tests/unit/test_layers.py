"""No module imports from a later stage: codes and windows know nothing of sockets."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import qdec

PACKAGE = Path(qdec.__file__).parent
# What each stage may import besides itself and the leaves.
LEAVES = {"errors", "bits"}
ALLOWED = {
    "errors": set(),
    "bits": set(),
    "codes": set(),
    "windows": {"codes"},
    "ingest": {"codes", "windows"},
    "neural": {"codes", "windows"},
    "cuda": {"codes", "windows", "neural"},
    "match": {"codes", "windows", "neural"},
    "commit": {"codes", "windows", "ingest", "neural", "match"},
    "priors": {"codes"},
    "calibration": set(),
    "bus": set(),
    "security": set(),
    "client": {"bus", "security"},
}
# Whatever sits above these may import all of them, but they none of it.
LATER = {
    "accelerator",
    "lane",
    "supervisor",
    "gateway",
    "doctor",
    "cli",
    "config",
    "slo",
    "control",
    "arena",
    "child",
}


def imported(source: str, package: str) -> Iterator[str]:
    """Dotted names of all that a module of `package` imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def stages_imported(source: str, package: str = "qdec.codes") -> set[str]:
    names = (name.split(".") for name in imported(source, package))
    return {parts[1] if len(parts) > 1 else "*" for parts in names if parts[0] == "qdec"}


def modules(stage: str) -> list[Path]:
    folder = PACKAGE / stage
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{stage}.py"]


@pytest.mark.parametrize("stage", ALLOWED)
def test_stages_import_earlier_ones_only(stage: str) -> None:
    may = ALLOWED[stage] | {stage} | (LEAVES if stage not in LEAVES else set())
    assert modules(stage)
    for path in modules(stage):
        package = ".".join(["qdec", *path.relative_to(PACKAGE).parts[:-1]])
        beyond = stages_imported(path.read_text(), package) - may
        assert not beyond, f"{path.relative_to(PACKAGE)} imports {sorted(beyond)}"


def test_processes_know_no_supervisor_and_no_client() -> None:
    nevers = {
        "lane": {"supervisor", "gateway", "client", "cli"},
        "accelerator": {"supervisor", "gateway", "client", "cli", "bus"},
        "gateway": {"supervisor", "client", "cli"},
        "supervisor": {"client"},
    }
    for stage, never in nevers.items():
        for path in modules(stage):
            beyond = stages_imported(path.read_text(), f"qdec.{stage}") & never
            assert not beyond, f"{path.relative_to(PACKAGE)} imports {sorted(beyond)}"


def test_the_service_imports_no_tools_but_its_commands() -> None:
    """`tools/` is what a person runs beside the service; only the command line may reach it."""
    for path in PACKAGE.rglob("*.py"):
        names = {name.split(".")[0] for name in imported(path.read_text(), "qdec")}
        assert path.parent.name == "cli" or "qdec_tools" not in names, path


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= ALLOWED.keys() | LATER, "say in ALLOWED what the new stage may import"


@pytest.mark.parametrize(
    ("source", "stages"),
    [
        ("import qdec.lane.core", {"lane"}),
        ("from qdec import lane", {"lane"}),
        ("from qdec.lane import core as x", {"lane"}),
        ("from ..bus import wire", {"bus"}),
        ("from .. import bus", {"bus"}),
        ("from . import limits", {"codes"}),
        ("def f():\n    if True:\n        from qdec.match.tier import Tier", {"match"}),
        ("from __future__ import annotations\nimport stim, numpy.typing", set()),
        ("import qdec", {"*"}),
    ],
)
def test_all_ways_to_import_are_seen(source: str, stages: set[str]) -> None:
    assert stages_imported(source) == stages
