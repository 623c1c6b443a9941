"""How every process of the service logs: to the journal with fields, else to stderr in lines.

systemd says in ``$JOURNAL_STREAM`` which device and inode stderr has where it goes to the journal.
Then messages go there by the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one
datagram for each, so that a traceback is one entry, and ``journalctl QDEC_PROCESS=lane0`` finds a
lane's.

A process never waits for the journal: what it does not take at once is dropped, and counted in the
next message that it takes.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from types import TracebackType

JOURNAL_SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "qdec"
# Bytes of a message, its traceback included: far below what a datagram may have.
MAX_MESSAGE = 32 << 10
_CUT = " [...]"
_FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"
# syslog(3)'s numbers.
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.DEBUG, 7),
)
_process = "tool"


def set_up(process: str, level: int = logging.INFO) -> None:
    """Log from here on; a process that dies of a signal leaves its stack behind.

    Nothing is done where somebody has set up logging before.

    Args:
        process: what this process is called until `call_process` says otherwise.
        level: of the least of the messages that are kept.
    """
    call_process(process)
    root = logging.getLogger()
    if root.handlers:
        return
    root.setLevel(level)
    if goes_to_journal():
        root.addHandler(JournalHandler(JOURNAL_SOCKET))
        sys.excepthook = _log_last_words
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(_FORMAT))
        root.addHandler(handler)
    if not faulthandler.is_enabled():
        # systemd's watchdog sends SIGABRT: the stack says where it hung.
        faulthandler.enable(file=2)


def call_process(name: str) -> None:
    """Say what this process is, once it knows: ``lane0``."""
    global _process
    _process = name


def goes_to_journal(environment: Mapping[str, str] = os.environ, fd: int = 2) -> bool:
    """Whether a descriptor, stderr's if no other is named, is a stream to the journal."""
    try:
        device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
        found = os.fstat(fd)
        return (int(device), int(inode)) == (found.st_dev, found.st_ino)
    except (OSError, ValueError):
        return False


class JournalHandler(logging.Handler):
    """Sends records to the journal."""

    def __init__(self, address: str) -> None:
        """Send to this socket, whoever listens there now or later."""
        super().__init__()
        self._address = address
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or count it as dropped."""
        try:
            fields = dict(_fields(record, self.format(record)))
        except Exception:  # a message whose arguments do not fit it, as `logging` handles it
            self.handleError(record)
            return
        if self._dropped:
            fields["QDEC_DROPPED"] = str(self._dropped)
        try:
            self._socket.sendto(serialise(fields), self._address)
            self._dropped = 0
        except OSError:
            self._dropped += 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def _fields(record: logging.LogRecord, message: str) -> Iterator[tuple[str, str]]:
    yield "MESSAGE", message
    priority = next((p for level, p in _PRIORITIES if record.levelno >= level), 7)
    yield "PRIORITY", str(priority)
    yield "SYSLOG_IDENTIFIER", IDENTIFIER
    yield "QDEC_PROCESS", _process
    yield "LOGGER", record.name
    yield "CODE_FILE", record.pathname
    yield "CODE_LINE", str(record.lineno)
    yield "CODE_FUNC", str(record.funcName)
    stream = getattr(record, "stream", None)  # log.warning(…, extra={"stream": name})
    if stream is not None:
        yield "QDEC_STREAM", str(stream)


def serialise(fields: Mapping[str, str]) -> bytes:
    """Fields as the journal's native protocol has them; values that are too long are cut."""
    parts = []
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if len(value) > MAX_MESSAGE:
            value = value[:MAX_MESSAGE].decode("utf-8", "ignore").encode() + _CUT.encode()
        if b"\n" in value:
            # Whose line breaks are no ends of fields has its length before it.
            parts.append(b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), value))
    return b"".join(parts)


def _log_last_words(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """An exception that nobody caught, as one entry."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log = logging.getLogger("qdec")
    log.critical("nobody caught: %s", error, exc_info=(kind, error, trace))
