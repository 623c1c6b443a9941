"""Prometheus' rules: judged by promtool, and held to what the exporter really exports."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.exported import exported_names, named_in

ROOT = Path(__file__).parents[2]
RULES = ROOT / "configs" / "prometheus" / "qdec.rules.yml"
TESTS = RULES.with_name("qdec.rules.test.yml")
RUNBOOK = ROOT / "docs" / "alerts.md"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"
)


@needs_promtool
@pytest.mark.parametrize("order", [("check", RULES), ("test", TESTS)], ids=lambda o: str(o[0]))
def test_promtool_is_content(order: tuple[str, Path]) -> None:
    assert PROMTOOL is not None
    command, path = order
    done = subprocess.run(
        [PROMTOOL, command, "rules", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_scrape_configuration_finds_the_rules() -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "check", "config", ROOT / "configs" / "prometheus.yml"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_every_metric_is_exported(tmp_path: Path) -> None:
    named = named_in(RULES.read_text())
    assert len(named) > 15
    assert named <= exported_names(tmp_path)
    # And a test is about nothing that there is not.
    assert named_in(TESTS.read_text()) <= named


def alerts() -> Iterator[tuple[str, str]]:
    """Names and texts of all alerts."""
    for text in re.split(r"\n      - ", RULES.read_text()):
        found = re.match(r"alert: (\w+)\n", text)
        if found:
            yield found[1], text


def test_every_alert_says_what_it_is_about_and_leads_to_a_runbook() -> None:
    anchors = {f"docs/alerts.md#{title.lower()}" for title in headings()}
    runbooks = set()
    for name, text in alerts():
        for part in ("summary: ", "description: "):
            assert part in text, name
        assert re.search(r"severity: (page|ticket)\}", text), name
        found = re.search(r"runbook: (\S+)", text)
        assert found, name
        assert found[1] in anchors, name
        runbooks.add(found[1])
        assert name in RUNBOOK.read_text(), name
    assert runbooks == anchors, "a runbook that no alert leads to"


def headings() -> list[str]:
    return re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)


def test_every_alert_has_fired_in_a_test() -> None:
    """Patterns such as ``QdecAccelerator.*`` are of queries; what is expected stands in full."""
    text = TESTS.read_text()
    for name, _ in alerts():
        fires = rf'alertname="{name}"|alertname: {name}\n\s+exp_alerts:\n\s+- '
        assert re.search(fires, text), name
