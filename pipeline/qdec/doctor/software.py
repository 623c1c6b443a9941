"""What is installed, and whether it loads here."""

from __future__ import annotations

import platform
from typing import Any

from qdec import __version__
from qdec.doctor.check import Check
from qdec.doctor.machine import Answer, Machine
from qdec.doctor.probe import PACKAGES
from qdec.findings import Finding, fail, ok, unknown

_IMPORTS_S = 2.5


def judge_package(package: str, installed_as: str, answer: Answer) -> Finding:
    """A package that the service imports.

    Args:
        package: name in the probe's answer.
        installed_as: what pip calls it.
        answer: of the probe ``imports``.
    """
    fix = f"pip install --force-reinstall {installed_as}"
    if not answer.facts:
        # A busy machine is no fault of the packages; a crash of the process that loads them is.
        crashed = "ended with status" in answer.trouble
        return fail(answer.trouble, fix) if crashed else unknown(answer.trouble)
    facts: dict[str, Any] = answer.facts.get(package, {"error": f"{installed_as} does not load"})
    if "error" in facts:
        return fail(str(facts["error"]), fix)
    return ok(str(facts["version"]))


def _package(package: str, installed_as: str) -> Check:
    def look(machine: Machine) -> Finding:
        return judge_package(package, installed_as, machine.probe("imports", _IMPORTS_S))

    return Check(package, look)


CHECKS = (
    Check("qdec", lambda _: ok(__version__)),
    Check("python", lambda _: ok(f"{platform.python_version()} ({platform.machine()})")),
    *(_package(package, package) for package in PACKAGES),
    _package("libzmq", "pyzmq"),
)
