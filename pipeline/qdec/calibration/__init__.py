"""Calibration of the device: messages, engines that read experiments, guardrails.

Pure so far: no process and no socket. `qdec.calibration.fit` imports SciPy; the messages and the
guardrails do not.
"""

from qdec.calibration.engine import Engine
from qdec.calibration.kinds import Kind
from qdec.calibration.request import Request, parse_request
from qdec.calibration.response import Response

__all__ = ["Engine", "Kind", "Request", "Response", "parse_request"]
