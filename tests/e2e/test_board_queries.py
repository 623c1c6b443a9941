"""Every query of the Grafana board and every rule, in a Prometheus that scrapes a service."""

from __future__ import annotations

import json
import re
from pathlib import Path

from helpers.accelerated import CORRELATED, SERVES, Client, table
from helpers.board import plain, queries, variables
from helpers.prometheus import CONFIGS, free_port, get, prometheus, results, until
from helpers.services import PATIENT, wait_for_log
from qdec.client import open_stream
from qdec_tools.service import running_service

# What has no data while all is well: it tells of something that happened.
OF_EVENTS = {"Restarts of the service"}


def test_every_query_has_data(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    gateway = f'[gateway]\nlisten = "{listen}"\n'
    tables = [gateway, table(tmp_path, "patch0"), table(tmp_path, "patch1", accelerated="false")]
    with (
        running_service(tables="".join(tables)) as service,
        prometheus(tmp_path, listen) as prom,
        open_stream(service.endpoint, "patch0", patience=PATIENT) as stream,
    ):
        client = Client(stream, 10_000, seed=7)
        wait_for_log(service, SERVES)
        client.until(CORRELATED)

        def empty() -> list[tuple[str, str]]:
            client.step()  # something to count
            return [
                (title, expr)
                for title, expr in queries()
                if title not in OF_EVENTS and not results(prom, plain(expr))
            ]

        assert until(empty, wanted=lambda missing: not missing, log=service.log) == []
        for definition in variables().values():
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", plain(definition))
            assert asked
            assert {one["metric"][asked[2]] for one in results(prom, asked[1])}
        assert "patch1" in {
            one["metric"]["stream"]
            for one in results(prom, "qdec_stream_window_duration_seconds_sum")
        }
        rules = json.loads(get(f"{prom}/api/v1/rules")[1])["data"]["groups"]
        found = [rule for group in rules for rule in group["rules"]]
        written = (CONFIGS / "prometheus" / "qdec.rules.yml").read_text()
        assert len(found) == len(re.findall(r"- (?:alert|record): ", written))
        assert [rule["name"] for rule in found if rule["health"] != "ok"] == []
