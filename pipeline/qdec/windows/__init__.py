"""Rounds assembled into windows; what one window's answer leaves to the next."""

from qdec.windows.geometry import (
    WHOLE,
    Geometry,
    Window,
    choose_geometry,
    parse_geometry,
    window_at,
)

__all__ = ["WHOLE", "Geometry", "Window", "choose_geometry", "parse_geometry", "window_at"]
