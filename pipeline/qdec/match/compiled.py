"""How numba compiles what Python calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_F = TypeVar("_F", bound=Callable[..., object])
_njit: Any = njit  # whose types know fewer options than it has


def compiled(function: _F, **options: Any) -> _F:
    """Compile on first use; keep the code on disk where there is a folder to keep it in."""
    try:
        return cast(_F, _njit(cache=True, **options)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cast(_F, _njit(**options)(function))
