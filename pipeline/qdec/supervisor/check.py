"""A new configuration, tried in a process of its own before the service adopts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from qdec.config import Config
from qdec.errors import ConfigError
from qdec.lane.making import Making
from qdec.supervisor.auto import settle

# Lanes that answer go first where processors are few.
_NICE = 10


class Check:
    """``qdec serve --check`` for a configuration; codes take seconds, and the service goes on.

    Attributes:
        candidate: the configuration, as it was read.
    """

    def __init__(self, candidate: Config, path: Path) -> None:
        """Begin.

        Raises:
            ConfigError: no process can be started.
        """
        self.candidate = candidate
        self._path = path
        command = [sys.executable, "-m", "qdec", "serve", "--config", str(path), "--check"]
        try:
            with ExitStack() as files:
                # Nobody reads before it ends, and a pipe would be full by then.
                self._told = files.enter_context(tempfile.TemporaryFile())
                self._words = files.enter_context(tempfile.TemporaryFile())
                self._popen = subprocess.Popen(
                    [*command, "--json"],
                    stdin=subprocess.DEVNULL,
                    stdout=self._told,
                    stderr=self._words,
                )
                files.pop_all()
        except OSError as error:
            raise ConfigError(f"it cannot be checked: {error}") from None
        with suppress(OSError):  # gone already
            os.setpriority(os.PRIO_PROCESS, self._popen.pid, _NICE)

    @property
    def done(self) -> bool:
        """Whether `result` knows."""
        return self._popen.poll() is not None

    def result(self) -> tuple[Config, dict[str, Making]]:
        """The configuration with every ``auto`` decided, and what makes each stream's answers.

        Raises:
            ConfigError: it cannot be served.
        """
        told, words = self._all_of(self._told), self._all_of(self._words)
        if self._popen.returncode:
            raise ConfigError(words.strip()[-1000:] or f"status {self._popen.returncode}")
        try:
            streams = json.loads(told)["streams"]
            makings = {name: Making(**one) for name, one in streams.items()}
        except (ValueError, KeyError, TypeError):
            raise ConfigError("its check said nothing that can be read") from None
        # The check has measured what is new, and remembers it.
        return settle(self.candidate, self._path, only_kept=True), makings

    def give_up(self) -> None:
        """Nobody wants to know any more."""
        self._popen.kill()
        self._popen.wait()
        self._told.close()
        self._words.close()

    @staticmethod
    def _all_of(file: IO[bytes]) -> str:
        with file:
            file.seek(0)
            return file.read().decode(errors="replace")
