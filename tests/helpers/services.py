"""What a test sees of a running service from outside."""

from __future__ import annotations

import time

import psutil

from qdec_tools.service import Service


def lane_pids(service: Service) -> list[int]:
    """Lane processes of a service, spares included, oldest first."""
    children = psutil.Process(service.pid).children()
    lanes = [c for c in children if "qdec.lane.process" in c.cmdline()]
    return [c.pid for c in sorted(lanes, key=lambda c: c.create_time())]


def wait_for_log(service: Service, text: str) -> str:
    """The line of the service's log with a text in it, as soon as there is one."""
    for _ in range(400):
        for line in service.log.read_text().splitlines():
            if text in line:
                return line
        time.sleep(0.05)
    raise AssertionError(f"'{text}' is not in the log:\n{service.log.read_text()}")
