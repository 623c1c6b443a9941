"""The table of everything that is checked, in the order of the report."""

from __future__ import annotations

from qdec.doctor import cpu, gpu, memory, network, realtime, security, service, software
from qdec.doctor.check import Group

GROUPS = (
    Group("software", software.CHECKS),
    Group("cpu", cpu.CHECKS),
    Group("memory", memory.CHECKS),
    Group("realtime", realtime.CHECKS),
    Group("network", network.CHECKS),
    Group("gpu", gpu.CHECKS),
    Group("service", service.CHECKS + security.CHECKS),
)
