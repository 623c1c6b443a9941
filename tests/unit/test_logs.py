"""What processes log, as a journal that is none of systemd's receives it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.journal import parse
from qdec import logs

FIELD = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=200) | st.sampled_from(
    ["", "\n", "a\nB=1", "=", "\x00", "x\n\n", "PRIORITY=0\nMESSAGE=forged"]
)


@pytest.fixture
def journal() -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens as journald does, and its address (which has to be short)."""
    with tempfile.TemporaryDirectory(prefix="qdec-") as folder:
        address = f"{folder}/socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
            sock.settimeout(5)
            yield sock, address


@pytest.fixture
def log(journal: tuple[socket.socket, str]) -> Iterator[logging.Logger]:
    one = logging.Logger("qdec.test")  # of its own: no other handler hears it
    handler = logs.JournalHandler(journal[1])
    one.addHandler(handler)
    yield one
    handler.close()


def received(journal: tuple[socket.socket, str]) -> dict[str, str]:
    return parse(journal[0].recv(1 << 20))


@given(st.dictionaries(FIELD, TEXT, max_size=6))
def test_what_is_written_is_what_is_read(fields: dict[str, str]) -> None:
    assert parse(logs.serialise(fields)) == fields


def test_a_record_has_its_fields(
    journal: tuple[socket.socket, str], log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_process", "lane3")
    log.warning("%d windows\nlate", 7, extra={"stream": "patch0"})
    found = received(journal)
    assert found.pop("CODE_FILE") == __file__
    assert int(found.pop("CODE_LINE")) > 1
    assert found == {
        "MESSAGE": "7 windows\nlate",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "qdec",
        "QDEC_PROCESS": "lane3",
        "QDEC_STREAM": "patch0",
        "LOGGER": "qdec.test",
        "CODE_FUNC": test_a_record_has_its_fields.__name__,
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)],
)
def test_levels_are_syslogs(
    journal: tuple[socket.socket, str], log: logging.Logger, level: str, priority: int
) -> None:
    getattr(log, level)("x")
    assert received(journal)["PRIORITY"] == str(priority)


def test_a_traceback_is_one_entry(journal: tuple[socket.socket, str], log: logging.Logger) -> None:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        log.exception("failed")
    message = received(journal)["MESSAGE"]
    assert message.startswith("failed\nTraceback ")
    assert message.endswith("RuntimeError: first\nsecond")


def test_what_is_too_long_is_cut_between_characters(
    journal: tuple[socket.socket, str], log: logging.Logger
) -> None:
    log.error("é" * logs.MAX_MESSAGE)
    message = received(journal)["MESSAGE"]
    assert message.endswith("é [...]")
    assert logs.MAX_MESSAGE <= len(message.encode()) < logs.MAX_MESSAGE + 10


def test_text_that_is_no_utf8_is_told_all_the_same(
    journal: tuple[socket.socket, str], log: logging.Logger
) -> None:
    log.error("path \udcff")
    assert received(journal)["MESSAGE"] == r"path \udcff"


def test_a_journal_that_does_not_read_holds_nobody_up(
    journal: tuple[socket.socket, str], log: logging.Logger
) -> None:
    sent = 3000  # more than any queue of datagrams has room for
    for i in range(sent):
        log.info("%d", i)
    journal[0].setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            assert received(journal)["MESSAGE"] == str(taken)
            taken += 1
    assert 0 < taken < sent
    log.info("again")
    found = received(journal)
    assert (found["MESSAGE"], found["QDEC_DROPPED"]) == ("again", str(sent - taken))
    log.info("once is enough")
    assert "QDEC_DROPPED" not in received(journal)


def test_a_journal_that_is_gone_holds_nobody_up_either(log: logging.Logger) -> None:
    handler = logs.JournalHandler("/nonexistent/socket")
    log.addHandler(handler)
    log.info("x")
    handler.close()


def test_stderr_is_the_journal_only_if_systemd_says_so(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as one, (tmp_path / "b").open("w") as other:
        found = os.fstat(one.fileno())
        told = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert logs.goes_to_journal(told, one.fileno())
        assert not logs.goes_to_journal(told, other.fileno())  # redirected: 2>file
        assert not logs.goes_to_journal({}, one.fileno())
    for nonsense in ("", ":", "1", "1:x", "-1:2:3"):
        assert not logs.goes_to_journal({"JOURNAL_STREAM": nonsense})
    assert not logs.goes_to_journal(told, 9999)


PROGRAM = """
import os, sys
from qdec import logs
logs.JOURNAL_SOCKET = sys.argv[1]
found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
logs.set_up("gateway")
"""


def run(address: str, end: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + end, address], capture_output=True, text=True
    )


def test_what_nobody_caught_is_logged(journal: tuple[socket.socket, str]) -> None:
    done = run(journal[1], "1 / 0")
    assert (done.returncode, done.stderr) == (1, "")
    found = received(journal)
    assert (found["PRIORITY"], found["QDEC_PROCESS"]) == ("2", "gateway")
    assert "ZeroDivisionError" in found["MESSAGE"]


def test_a_process_that_the_watchdog_kills_says_where_it_was(
    journal: tuple[socket.socket, str],
) -> None:
    done = run(journal[1], "def stuck(): os.abort()\nstuck()")
    assert done.returncode == -6
    assert "in stuck" in done.stderr
