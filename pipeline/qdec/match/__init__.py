"""The decoders that answer a window: one interface, several tiers."""

from qdec.match.compile import compile_window
from qdec.match.tier import CLASSICAL, SOFT, Answers, CompiledWindow, Tier

__all__ = ["CLASSICAL", "SOFT", "Answers", "CompiledWindow", "Tier", "compile_window"]
