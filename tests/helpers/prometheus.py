"""A real Prometheus, and what it answers."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
Answer = TypeVar("Answer")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def get(url: str) -> tuple[int, str]:
    """Status and text; status 0 if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(what: Callable[[], Answer], *, wanted: Callable[[Answer], bool], log: Path) -> Answer:
    """Ask again until the answer is as wanted."""
    for _ in range(600):
        answer = what()
        if wanted(answer):
            return answer
        time.sleep(0.05)
    raise AssertionError(f"still {answer!r}; the log says:\n{log.read_text()[-4000:]}")


@contextmanager
def prometheus(tmp_path: Path, target: str) -> Iterator[str]:
    """Debian's Prometheus with the scrape configuration that we ship, pointed at `target`."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    text = (CONFIGS / "prometheus.yml").read_text()
    assert "127.0.0.1:9600" in text
    assert "scrape_interval: 5s" in text
    config = tmp_path / "prometheus.yml"
    assert "- prometheus/qdec.rules.yml" in text
    for ours, here in (
        ("127.0.0.1:9600", target),
        ("interval: 5s", "interval: 200ms"),
        ("interval: 15s", "interval: 200ms"),
        ("- prometheus/", f"- {CONFIGS}/prometheus/"),
    ):
        text = text.replace(ours, here)
    config.write_text(text)
    log = tmp_path / "prometheus.log"
    listen = f"127.0.0.1:{free_port()}"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address={listen}",
            ],
            stdout=sink,
            stderr=sink,
        )
    try:
        url = f"http://{listen}"
        until(lambda: get(f"{url}/-/ready")[0], wanted=lambda s: s == 200, log=log)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def results(prometheus_url: str, promql: str) -> list[dict[str, Any]]:
    """Series that a PromQL expression is now."""
    parameters = urllib.parse.urlencode({"query": promql})
    status, text = get(f"{prometheus_url}/api/v1/query?{parameters}")
    assert status == 200, text
    return list(json.loads(text)["data"]["result"])


def query(prometheus_url: str, promql: str) -> float | None:
    """What a PromQL expression is now; None if it is nothing."""
    found = results(prometheus_url, promql)
    assert len(found) <= 1, found
    return float(found[0]["value"][1]) if found else None
