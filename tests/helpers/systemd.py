"""What systemd is to a service: a socket for notifications, a journal, a watchdog, confinement."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helpers.journal import parse
from helpers.stuck_lane import STUCK_FILE
from qdec_tools import service as services

TESTS = Path(__file__).parents[1]
# Runs in the service's process before anything else does. Its stderr is the journal's stream.
PROGRAM = (
    "import os, sys; found = os.fstat(2); "
    "os.environ['JOURNAL_STREAM'] = f'{{found.st_dev}}:{{found.st_ino}}'; "
    "from pathlib import Path; from helpers import sandbox; "
    "unit = os.environ.get('QDEC_TESTS_UNIT'); unit and sandbox.confine(Path(unit)); "
    "from helpers import stuck_lane; stuck_lane.install(); " + services._CHILD
)


@dataclass
class Systemd:
    """What a service has told, in order of arrival.

    Attributes:
        told: notifications, as lists of lines, and entries of the journal, as fields.
        stuck: lanes answer nothing while this file is there.
    """

    stuck: Path
    told: list[list[str] | dict[str, str]] = field(default_factory=list)

    @property
    def notified(self) -> list[str]:
        """Lines of all notifications."""
        return [line for one in list(self.told) if isinstance(one, list) for line in one]

    @property
    def journal(self) -> list[dict[str, str]]:
        """Entries of the journal."""
        return [one for one in list(self.told) if isinstance(one, dict)]

    @property
    def status(self) -> str:
        """The last words."""
        words = [line for line in self.notified if line.startswith("STATUS=")]
        return words[-1].removeprefix("STATUS=") if words else ""

    def until(self, happened: Callable[[], object]) -> None:
        """Wait."""
        for _ in range(600):
            if happened():
                return
            time.sleep(0.05)
        tail = [one if isinstance(one, list) else one["MESSAGE"] for one in self.told[-30:]]
        raise AssertionError(f"it does not happen; lately: {tail}")

    def logged(self, words: str, since: int = 0) -> list[dict[str, str]]:
        """Entries with words in their message."""
        return [one for one in self.journal[since:] if words in one["MESSAGE"]]


@contextmanager
def systemd(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, unit: Path | None, watchdog_s: float
) -> Iterator[Systemd]:
    """Services that are started within this block are started by systemd, as far as they can tell.

    Args:
        folder: a private one with a short path.
        monkeypatch: what is patched ends with it.
        unit: whose system call filters hold; None for no confinement.
        watchdog_s: how often the service must say that it is well.
    """
    found = Systemd(folder / "stuck")
    notify, journal = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    notify.bind(str(folder / "notify"))
    journal.bind(str(folder / "journal"))
    ours, theirs = socket.socketpair()
    environment = {
        "NOTIFY_SOCKET": str(folder / "notify"),
        "WATCHDOG_USEC": str(round(watchdog_s * 1e6)),
        "QDEC_TESTS_JOURNAL": str(folder / "journal"),
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS / 'helpers' / 'site'}",
        STUCK_FILE: str(found.stuck),
        **({} if unit is None else {"QDEC_TESTS_UNIT": str(unit)}),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(services, "_CHILD", PROGRAM)

    def listen() -> None:
        while True:
            ready, _, _ = select.select([notify, journal, theirs], [], [])
            # What is notified has been logged before.
            while select.select([journal], [], [], 0)[0]:
                found.told.append(parse(journal.recv(1 << 20)))
            if notify in ready:
                found.told.append(notify.recv(1 << 16).decode().split("\n"))
            if theirs in ready:
                return

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield found
    finally:
        ours.send(b"x")
        thread.join()
        for sock in (notify, journal, ours, theirs):
            sock.close()
