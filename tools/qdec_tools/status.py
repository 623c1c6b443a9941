"""What `qdec status` does."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from qdec.client import ClientKeys, service_status
from qdec_tools.view import count, stage_table

_COUNTERS = (
    "rounds",
    "windows",
    "late",
    "preempted",
    "infeasible",
    "erased",
    "errors",
    "gaps",
    "duplicates",
    "opened",
    "closed",
    "unroutable",
)


def run(endpoint: str, *, keys: ClientKeys | None, watch: bool, as_json: bool) -> int:
    """Show a lane once, or until interrupted. Returns the exit status.

    Raises:
        ServiceUnavailable: nobody answers.
    """
    if as_json:
        print(json.dumps(service_status(endpoint, keys=keys)))
        return 0
    if not watch:
        Console().print(_page(endpoint, service_status(endpoint, keys=keys)))
        return 0
    try:
        with Live(_page(endpoint, service_status(endpoint, keys=keys)), auto_refresh=False) as live:
            while True:
                time.sleep(0.5)
                live.update(_page(endpoint, service_status(endpoint, keys=keys)), refresh=True)
    except KeyboardInterrupt:
        return 0


def _page(endpoint: str, status: dict[str, Any]) -> Group:
    draining = ", draining" if status["draining"] else ""
    streams = Table(title=f"{endpoint}, qdec {status['version']}{draining}", title_justify="left")
    columns = (
        "stream",
        "part",
        "tier",
        "windows",
        "next_round",
        "committed",
        "backlog",
        "paused",
        "bytes",
        "code",
    )
    for name in columns:
        streams.add_column(name)
    for row in status["streams"]:
        streams.add_row(
            *(count(row[c]) if isinstance(row[c], int) else str(row[c]) for c in columns)
        )
    counters = Table(show_header=False)
    for name in _COUNTERS:
        counters.add_row(name, count(status.get(name, 0)))
    return Group(streams, stage_table(status), counters)
