"""A service with keys: its own, those of clients, and the file that says what they may do."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdec.security.keys import ClientKeys, KeyPair, new_pair, write_pair
from qdec_tools.service import Service, running_service

Rights = Mapping[str, Any]
# Who asks whether the service is there; no test connects as it.
_PORTER = {"topics": ["status"]}


@dataclass
class Locksmith:
    """Makes keys, and the file of those that are authorised.

    Attributes:
        folder: of all of it.
        server: the service's key.
        pairs: clients' keys by name.
    """

    folder: Path
    server: KeyPair
    pairs: dict[str, KeyPair]

    @classmethod
    def at(cls, folder: Path) -> Locksmith:
        folder.mkdir(mode=0o700, exist_ok=True)
        server = new_pair("service")
        write_pair(server, folder)
        return cls(folder, server, {})

    def keys(self, name: str) -> ClientKeys:
        """A client's keys; made the first time."""
        if name not in self.pairs:
            self.pairs[name] = new_pair(name)
            write_pair(self.pairs[name], self.folder)
        return ClientKeys(self.pairs[name], self.server.public)

    def authorise(self, rights: Mapping[str, Rights]) -> Path:
        """Write the file of authorised keys: these, and the porter."""
        lines = []
        for name, settings in {"porter": _PORTER, **rights}.items():
            public = self.keys(name).own.public
            lines += ["[[key]]", f'name = "{name}"', f'public = "{public}"']
            lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        path = self.folder / "authorised.toml"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)
        return path

    @property
    def tables(self) -> str:
        """For the configuration."""
        return (
            f'[security]\nserver_key = "{self.folder}/service.secret"\n'
            f'authorised = "{self.folder}/authorised.toml"\n'
        )

    @property
    def secrets(self) -> list[str]:
        """Every secret that must be in no log."""
        return [self.server.secret, *(pair.secret for pair in self.pairs.values())]


@contextmanager
def locked_service(
    smith: Locksmith, rights: Mapping[str, Rights], tables: str = "", **options: Any
) -> Iterator[Service]:
    """A service that speaks CURVE; its log is looked through for secrets when it ends."""
    smith.authorise(rights)
    porter = smith.keys("porter")
    with running_service(
        transport="tcp", tables=smith.tables + tables, keys=porter, **options
    ) as service:
        yield service
        log = service.log.read_text()
    for secret in smith.secrets:
        assert secret not in log


def reload(service: Service) -> None:
    os.kill(service.pid, signal.SIGHUP)
