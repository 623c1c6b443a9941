"""A new configuration, tried in a process of its own before the service adopts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from qdec.config import Config
from qdec.errors import ConfigError
from qdec.lane.making import Making
from qdec.supervisor.auto import settle


class Check:
    """``qdec serve --check`` for a configuration; codes take seconds, and the service goes on.

    Attributes:
        candidate: the configuration, as it was read.
    """

    def __init__(self, candidate: Config, path: Path) -> None:
        """Begin."""
        self.candidate = candidate
        self._path = path
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "qdec", "serve", "--config", str(path), "--check", "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @property
    def done(self) -> bool:
        """Whether `result` knows."""
        return self._popen.poll() is not None

    def result(self) -> tuple[Config, dict[str, Making]]:
        """The configuration with every ``auto`` decided, and what makes each stream's answers.

        Raises:
            ConfigError: it cannot be served.
        """
        told, words = self._popen.communicate()
        if self._popen.returncode:
            raise ConfigError(words.decode(errors="replace").strip()[-1000:])
        streams = json.loads(told)["streams"]
        makings = {name: Making(**one) for name, one in streams.items()}
        # The check has measured what is new, and remembers it.
        return settle(self.candidate, self._path, only_kept=True), makings

    def give_up(self) -> None:
        """Nobody wants to know any more."""
        self._popen.kill()
        self._popen.communicate()
