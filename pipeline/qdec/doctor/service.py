"""What the service itself needs: a place for its key, a configuration, addresses, cores."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from qdec.doctor import endpoints
from qdec.doctor.check import Check
from qdec.doctor.machine import Answer, Machine
from qdec.doctor.realtime import lane_answer
from qdec.errors import ConfigError
from qdec.findings import Finding, fail, ok, unknown, user, warn

_ASKING_S = 1.0


def judge_state_dir(path: Path, nearest: Path, writable: bool) -> Finding:
    """Where the cursor key is kept.

    Args:
        path: of the directory, which may not exist yet.
        nearest: itself, or the closest folder above that exists.
        writable: whether this user may write to `nearest`.
    """
    if writable:
        return ok(f"{path}" if nearest == path else f"{path}, to be made at the first start")
    return fail(
        f"{path} cannot be written" if nearest == path else f"{nearest} cannot be written",
        "state_dir under [service] in a place this user may write, StateDirectory=qdec in the "
        f"[Service] section of the unit, or sudo install -d -m 700 -o {user()} {path}",
    )


def judge_key(path: Path, mode: int | None, readable: bool) -> Finding:
    """The key that authenticates resume cursors.

    Args:
        path: of the file.
        mode: its permissions, None where there is no file.
        readable: whether this user may read it.
    """
    if mode is None:
        return ok("none yet: made at the first start")
    if mode & 0o077:
        return fail(
            f"{path} has mode {mode:04o}: others can forge cursors",
            f"chmod 600 {path}, or rm {path} to have a new one made",
        )
    if not readable:
        return fail(f"{path} cannot be read by this user", f"sudo chown {user()} {path}")
    return ok(f"{path}, mode {mode:04o}")


def judge_systemd(running: bool) -> Finding:
    """Whether something starts the supervisor and restarts it."""
    if running:
        return ok("present")
    return warn(
        "not running: nothing restarts the supervisor itself",
        "qdec install makes it a service where systemd runs; elsewhere, have whatever starts "
        "services restart 'qdec serve' when it ends",
    )


def judge_config(path: Path, mistake: str, lanes: int, streams: int) -> Finding:
    """Whether a configuration is one."""
    if mistake:
        return fail(mistake, f"mend it, then: qdec serve --config {path} --check")
    return ok(f"{path}: {lanes} lane(s), {streams} stream(s)")


def judge_endpoints(troubles: Mapping[str, str], ours: Sequence[str]) -> Finding:
    """Whether lanes can bind what they should.

    Args:
        troubles: why an endpoint cannot be bound, an empty string where it can.
        ours: endpoints that cannot be bound because a qdec answers there.
    """
    bad = {e: why for e, why in troubles.items() if why and e not in ours}
    if bad:
        return fail(
            "; ".join(f"{endpoint}: {why}" for endpoint, why in bad.items()),
            "endpoints under [[lane]] with another address, or end what has it (ss -ltnxp)",
        )
    free = len(troubles) - len(ours)
    parts = [f"{free} free"] if free else []
    if ours:
        parts.append(f"{len(ours)} in use by a running qdec")
    return ok(", ".join(parts))


def judge_lane_cores(cpus: Sequence[int | None], answer: Answer) -> Finding:
    """Whether every lane can be pinned where the configuration wants it."""
    pinned = [cpu for cpu in cpus if cpu is not None]
    if not pinned:
        return ok("lanes run on any core")
    if not answer.facts:
        return unknown(answer.trouble)
    refused = answer.facts["refused"]
    if refused:
        return fail(
            f"cpu = {', '.join(map(str, refused))}: no such core, or not for this service",
            "cpu under [[lane]] with a core that `lscpu -e` lists and the unit's cpuset has",
        )
    shared = [str(cpu) for cpu, lanes in Counter(pinned).items() if lanes > 1]
    if shared:
        return warn(
            f"several lanes on core {', '.join(shared)}",
            "cpu = N with another core for each [[lane]]",
        )
    return ok(", ".join(map(str, pinned)))


def _state_dir(machine: Machine) -> Finding:
    path = machine.service.state_dir
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    usable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return judge_state_dir(path, nearest, usable)


def _key(machine: Machine) -> Finding:
    from qdec.supervisor.keys import key_path

    path = key_path(machine.service.state_dir)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return judge_key(path, None, False)
    except OSError:
        return judge_key(path, 0, False)
    return judge_key(path, mode, os.access(path, os.R_OK))


def _config(machine: Machine) -> Finding:
    assert machine.config_path is not None
    try:
        config = machine.config
    except ConfigError as error:
        return judge_config(machine.config_path, str(error), 0, 0)
    assert config is not None
    return judge_config(machine.config_path, "", len(config.lane), len(config.stream))


def _endpoints(machine: Machine) -> Finding:
    config = machine.usable_config
    if config is None:
        return unknown("the configuration is wrong")
    wanted = [endpoint for lane in config.lane for endpoint in lane.endpoints]
    troubles = {endpoint: endpoints.trouble(endpoint) for endpoint in wanted}
    taken = [endpoint for endpoint, why in troubles.items() if why == endpoints.TAKEN]
    key = config.security.server_key if config.speaks_curve else None
    return judge_endpoints(troubles, endpoints.answered(taken, _ASKING_S, key))


def _lane_cores(machine: Machine) -> Finding:
    if machine.usable_config is None:
        return unknown("the configuration is wrong")
    return judge_lane_cores(machine.lane_cores, lane_answer(machine))


CHECKS = (
    Check("config", _config, with_config=True),
    Check("endpoints", _endpoints, with_config=True),
    Check("lane cores", _lane_cores, with_config=True),
    Check("state directory", _state_dir),
    Check("cursor key", _key),
    Check("systemd", lambda m: judge_systemd(m.exists("/run/systemd/system"))),
)
