"""The command line, run in the test's own process."""

from __future__ import annotations

from collections.abc import Callable

# Arguments → (exit status, stdout, stderr): what the fixture `qdec` gives.
Run = Callable[..., tuple[int, str, str]]
