"""The Grafana board, and what its queries are without Grafana."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[2] / "configs" / "grafana" / "qdec.json"
# What Grafana would put in place of its variables: everything, over a short time.
_VARIABLES = {"$instance": ".*", "$stream": ".*", "$__rate_interval": "5s"}


def board() -> dict[str, Any]:
    return dict(json.loads(PATH.read_text()))


def panels() -> list[dict[str, Any]]:
    """All that show something; rows do not."""
    return [one for one in board()["panels"] if one["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    """(panel, PromQL) of every query, those of annotations included."""
    found = [(one["title"], target["expr"]) for one in panels() for target in one["targets"]]
    return found + [(one["name"], one["expr"]) for one in board()["annotations"]["list"]]


def variables() -> dict[str, str]:
    """Queries that the choices of the board's variables come from."""
    wanted = board()["templating"]["list"]
    return {one["name"]: one["definition"] for one in wanted if one["type"] == "query"}


def plain(promql: str) -> str:
    """The query with Grafana's variables filled in."""
    for name, value in _VARIABLES.items():
        promql = promql.replace(name, value)
    assert "$" not in promql, promql
    return promql
