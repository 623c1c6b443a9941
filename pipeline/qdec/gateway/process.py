"""The gateway process: one control channel, one HTTP server, nothing that anybody waits for."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from qdec.arena import Arena
from qdec.bus.endpoints import check_listen
from qdec.child import Child, main
from qdec.config import Config, GatewayConfig
from qdec.errors import ConfigError
from qdec.gateway.collector import ArenaCollector
from qdec.gateway.reading import Reader
from qdec.gateway.server import Page, Server

log = logging.getLogger("qdec.gateway")
_BEAT_S = 0.25
# How long a request that is being answered may hold up the end.
_PATIENCE_S = 1.0


class Gateway:
    """What the pages say, from the arena and the configuration of the moment."""

    def __init__(self, arena: Arena, config: Config) -> None:
        """Speak for a service."""
        self.config = config
        self._arena = arena
        self._registry = CollectorRegistry()
        self._registry.register(ArenaCollector(Reader(arena), lambda: self.config))
        ProcessCollector(registry=self._registry)
        self.pages = {
            "/metrics": self.metrics,
            "/healthz": lambda _: Page.words("ok"),
            "/readyz": lambda _: self.ready(),
        }

    def metrics(self, accept: str) -> Page:
        """Everything counted, in the format that the request's Accept header prefers."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # versions that are none
            encode, content_type = choose_encoder("")
        return Page(encode(self._registry), content_type=content_type)

    def ready(self) -> Page:
        """Whether every lane is served."""
        up = self._arena.head.up
        missing = [i for i in range(len(self.config.lane)) if not up[i]]
        if not missing:
            return Page.words("every lane is served")
        lanes = ", ".join(map(str, missing))
        return Page.words(f"not served: lane {lanes}", HTTPStatus.SERVICE_UNAVAILABLE)


def run(child: Child) -> int:
    """Serve until told to drain. Returns the exit status.

    Raises:
        ArenaError: the arena is of another version.
        ChannelClosed: the supervisor is gone.
        ConfigError: the address cannot be bound.
    """
    if child.wait_for("warm") is None:
        return 0
    arena = Arena(child.arena_fd)
    child.control.send("warm")
    order = child.wait_for("serve")
    if order is None:
        return 0
    gateway = Gateway(arena, Config.model_validate(order["config"]))
    with _bound(gateway) as server:
        log.info("metrics at http://%s/metrics", _settings(gateway).listen)
        child.control.send("serving")
        next_beat = 0.0
        while _obey(child, gateway):
            server.turn()
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + _BEAT_S
                child.beat()
        _finish(server)
    child.control.send("drained")
    return 0


def _settings(gateway: Gateway) -> GatewayConfig:
    return gateway.config.gateway or GatewayConfig()


def _bound(gateway: Gateway) -> Server:
    settings = _settings(gateway)
    host, port = check_listen(settings.listen, allow_remote=settings.plain_http)
    try:
        return Server(host, port, gateway.pages)
    except OSError as error:
        # The supervisor tries again later, which is soon enough.
        words = f"cannot serve metrics on {settings.listen}: {error.strerror}"
        raise ConfigError(words) from None


def _obey(child: Child, gateway: Gateway) -> bool:
    """Do what the supervisor says. False when that is to go."""
    for order in child.orders():
        match order["op"]:
            case "configure":
                gateway.config = Config.model_validate(order["config"])
            case "drain":
                return False
    return True


def _finish(server: Server) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while server.busy and time.monotonic() < give_up:
        time.sleep(0.01)


if __name__ == "__main__":
    main(run)
