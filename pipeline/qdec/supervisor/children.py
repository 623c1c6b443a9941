"""Child processes: started, talked to, listened to, buried. Who should run, the policy says."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qdec.control import Channel, ChannelClosed, Message
from qdec.lane.making import Making
from qdec.supervisor.policy import Role

_DYING_S = 0.05


@dataclass(slots=True)
class Process:
    """A child that runs, or has just died.

    Attributes:
        popen: the process.
        channel: our end of the line to it.
        listening: descriptors of the listening sockets that it has inherited, by endpoint.
        makings: what it is warm with, by stream, as it has said.
    """

    popen: subprocess.Popen[bytes]
    channel: Channel
    listening: dict[str, int]
    makings: dict[str, Making] = field(default_factory=dict)


class Children:
    """The processes by the policy's ids; their lines are watched by a selector."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        """None runs yet."""
        self._selector = selector
        self._processes: dict[int, Process] = {}

    def __getitem__(self, child: int) -> Process:
        """One of them."""
        return self._processes[child]

    def start(
        self, role: Role, arena: int, bells: Sequence[int], listening: Mapping[str, int]
    ) -> Process:
        """Start a process of a role, which inherits these descriptors; see `add`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        popen = subprocess.Popen(
            [
                sys.executable,
                "-m",
                role.module,
                f"--control-fd={theirs.fileno()}",
                f"--arena-fd={arena}",
                f"--parent={os.getpid()}",
                f"--role={role.name}",
                "--doorbells",
                *map(str, bells),
            ],
            pass_fds=[theirs.fileno(), arena, *bells, *listening.values()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        if role.nice:
            with contextlib.suppress(OSError):  # gone already
                os.setpriority(os.PRIO_PROCESS, popen.pid, role.nice)
        return Process(popen, Channel(ours), dict(listening))

    def add(self, child: int, process: Process) -> None:
        """Know a process by an id, and watch its line."""
        self._processes[child] = process
        self._selector.register(process.channel, selectors.EVENT_READ, data=child)

    def tell(self, child: int, op: str, **fields: Any) -> None:
        """Send an order. A child that is already gone is noticed when it is reaped."""
        with contextlib.suppress(ChannelClosed):
            self._processes[child].channel.send(op, **fields)

    def flush(self) -> None:
        """Send what could not be sent at once."""
        for process in self._processes.values():
            with contextlib.suppress(ChannelClosed):
                process.channel.flush()

    def listen(self, child: int) -> list[Message] | None:
        """What a child has said; None if its line is cut, and it is dead therefore."""
        process = self._processes.get(child)
        if process is None:
            return []
        try:
            return process.channel.receive()
        except ChannelClosed:
            # It is dead or dying; being unable to talk to it is the same as its death.
            try:
                process.popen.wait(_DYING_S)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
            return None

    def reap(self) -> list[tuple[int, list[Message]]]:
        """Those that have died by themselves, with their last words; `bury` them."""
        found = []
        for child, process in self._processes.items():
            if process.popen.poll() is not None:
                words: list[Message] = []
                with contextlib.suppress(ChannelClosed):
                    words = process.channel.receive()
                found.append((child, words))
        return found

    def bury(self, child: int) -> Process:
        """Forget one that is dead."""
        process = self._processes.pop(child)
        self._selector.unregister(process.channel)
        process.channel.close()
        return process

    def kill(self) -> None:
        """End all of them at once."""
        for process in self._processes.values():
            process.popen.kill()

    def end(self) -> None:
        """End all of them, and wait until they are gone."""
        self.kill()
        for process in self._processes.values():
            process.popen.wait()


def ending(status: int, words: str = "") -> str:
    """What a log says of a process's exit status; `words` if somebody knows what it means."""
    if status >= 0:
        return f"{words} (exit status {status})" if words else f"exit status {status}"
    name: Callable[[int], signal.Signals] = signal.Signals
    return f"killed by {name(-status).name}"
