"""What was found when something was asked of the machine, and the fix where it could not be had."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a finding is to be taken. Statuses order by how much they matter: see `rank`."""

    OK = "ok"
    UNKNOWN = "unknown"  # the machine does not say
    WARN = "warn"  # the service runs, but slower or less safely than it could
    FAIL = "fail"  # the service, or what its configuration demands, cannot be had

    @property
    def rank(self) -> int:
        """Position from harmless to fatal."""
        return list(Status).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing as it is.

    Attributes:
        status: whether that is good enough.
        value: what is, in a few words.
        fix: a command or a line of configuration that mends it; empty where nothing is amiss.
    """

    status: Status
    value: str
    fix: str = ""


def ok(value: str) -> Finding:
    """As it should be."""
    return Finding(Status.OK, value)


def unknown(value: str) -> Finding:
    """The machine does not say; `value` tells why."""
    return Finding(Status.UNKNOWN, value)


def warn(value: str, fix: str) -> Finding:
    """Good enough to run."""
    return Finding(Status.WARN, value, fix)


def fail(value: str, fix: str) -> Finding:
    """Not good enough to run."""
    return Finding(Status.FAIL, value, fix)


def limit_fix(limit: str, in_unit: str, in_limits: str) -> str:
    """The two lines that raise a resource limit.

    Args:
        limit: its name, such as ``rtprio``.
        in_unit: the value as systemd writes it.
        in_limits: the value as limits.conf(5) writes it.
    """
    return (
        f"Limit{limit.upper()}={in_unit} in the [Service] section of the unit, or a line "
        f"'{user()} - {limit} {in_limits}' in /etc/security/limits.d/qdec.conf"
    )


def user() -> str:
    """Name of this user."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
