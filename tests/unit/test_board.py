"""The Grafana board: whole, readable, and about metrics that there are."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from helpers.board import board, panels, plain, queries, variables
from helpers.exported import exported_names, named_in

RULES = Path(__file__).parents[2] / "configs" / "prometheus" / "qdec.rules.yml"
COLUMNS = 24


def test_every_panel_has_an_id_and_a_place_of_its_own() -> None:
    everything = board()["panels"]
    assert len({one["id"] for one in everything}) == len(everything)
    for one, other in combinations(everything, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (one["title"], other["title"])
    for one in everything:
        at = one["gridPos"]
        assert at["x"] >= 0, one["title"]
        assert at["x"] + at["w"] <= COLUMNS, one["title"]
        assert min(at["w"], at["h"]) >= 1, one["title"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_every_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["description"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"]["unit"]
    names = [target["refId"] for target in panel["targets"]]
    assert len(set(names)) == len(names) > 0
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        # A legend's words are labels that the query keeps.
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert label in ("instance", "lane") or label in target["expr"] or _kept(label, target)


def _kept(label: str, target: dict[str, Any]) -> bool:
    """Whether a query that sums nothing up shows a metric that has this label."""
    page = (RULES.parents[2] / "docs" / "metrics.md").read_text()
    (name,) = re.findall(r"(?:qdec_[a-z0-9_]+|qdec:[a-z0-9_:]+)", target["expr"])[:1]
    if ":" in name:
        return True
    row = next(line for line in page.splitlines() if f"`{name}`" in line)
    return label in row


def test_titles_are_distinct_within_the_board() -> None:
    titles = [one["title"] for one in board()["panels"]]
    assert len(set(titles)) == len(titles)


def test_every_metric_is_exported_or_recorded(tmp_path: Path) -> None:
    exported, recorded = (
        exported_names(tmp_path),
        set(re.findall(r"record: (\S+)", RULES.read_text())),
    )
    asked = " ".join([*(expr for _, expr in queries()), *variables().values()])
    assert len(named_in(asked)) > 30
    assert named_in(asked) <= exported
    assert set(re.findall(r"qdec:[a-z0-9_:]+", asked)) <= recorded


def test_every_query_heeds_the_chosen_instance() -> None:
    for title, expr in queries():
        selectors = re.findall(r"(?:qdec[_:]|\bup|ALERTS)[a-z0-9_:]*(\{[^}]*\})?", expr)
        assert selectors, title
        assert all('instance=~"$instance"' in one for one in selectors), title


def test_variables_are_all_filled_in() -> None:
    for _, expr in queries():
        plain(expr)
    assert variables().keys() == {"instance", "stream"}
