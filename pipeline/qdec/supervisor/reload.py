"""SIGHUP: a configuration read again, tried, and accepted or refused. Nothing is adopted here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from qdec.config import Config, load_config
from qdec.errors import ConfigError
from qdec.lane.making import Making
from qdec.supervisor.change import Makings, orphaned, torn
from qdec.supervisor.check import Check
from qdec.supervisor.notify import notify

log = logging.getLogger("qdec.supervisor")


class Reload:
    """At most one check at a time; the newest wins.

    Attributes:
        words: how the last one went, for the service's status; empty if it is as it should be.
    """

    def __init__(self, path: Path | None) -> None:
        """Nothing was asked for yet; without a path nothing can be."""
        self.words = ""
        self._path = path
        self._check: Check | None = None

    def begin(self, config: Config) -> None:
        """Check what the file says now in a process of its own; `config` is what holds so far.

        Codes take seconds to check, and until then the service goes on under the old one.
        """
        if self._path is None:
            log.warning("SIGHUP: there is no configuration file to read again")
            return
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            candidate = load_config(self._path)
            _check_fixed(config, candidate)
            check = Check(candidate, self._path)
        except ConfigError as error:
            self.refuse(str(error))
            return
        self.give_up()
        self.words = "checking a new configuration"
        self._check = check

    def result(
        self, config: Config, warm: Mapping[int, Makings], is_open: Callable[[], set[str]]
    ) -> tuple[Config, dict[str, Making]] | None:
        """What was checked and is good, with what makes its streams' answers; None if nothing is.

        Args:
            config: what holds so far.
            warm: what makes the answers at each lane's post.
            is_open: streams that clients have open.
        """
        check = self._check
        if check is None or not check.done:
            return None
        self._check = None
        try:
            new, wanted = check.result()
            names = is_open()
            if left := orphaned(config, new, names):
                raise ConfigError(
                    f"{', '.join(left)} is not in it any more, but open: close it first"
                )
            if ended := torn(wanted, warm, names):
                raise ConfigError(
                    f"rounds of {', '.join(ended)} would look otherwise (another code, shot length "
                    "or kind of rounds), and it is open: close it first, or take another name"
                )
        except ConfigError as error:
            self.refuse(str(error))
            return None
        return new, wanted

    def refuse(self, why: str) -> None:
        """The old configuration stays."""
        log.error("the new configuration is refused, the old one stays: %s", why)
        self.end("the last reload was refused")

    def end(self, words: str = "") -> None:
        """Tell systemd that reloading is over."""
        self.words = words
        notify("READY=1")

    def give_up(self) -> None:
        """Nobody wants to know any more what is being checked."""
        if self._check is not None:
            self._check.give_up()


def _check_fixed(old: Config, new: Config) -> None:
    """Refuse what cannot change while the service runs.

    Raises:
        ConfigError: it has.
    """
    before, after = old.service.state_dir, new.service.state_dir
    if before != after:
        # Its key seals every cursor that clients hold; lanes have it since they were started.
        raise ConfigError(
            f"state_dir cannot change from {before} to {after} while the service runs, because "
            "clients could not resume: stop the service, and start it again"
        )
    kept = (old.service.plain_tcp, old.security.server_key, old.speaks_curve)
    if kept != (new.service.plain_tcp, new.security.server_key, new.speaks_curve):
        raise ConfigError(
            "whether TCP speaks CURVE, and with which server_key, cannot change while the service "
            "runs: stop it, and start it again (authorised keys are read again at SIGHUP)"
        )
