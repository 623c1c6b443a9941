"""Files of `configs/` that commands need: they come with the package, or lie in the checkout."""

from __future__ import annotations

from pathlib import Path

# Where the wheel has them (pyproject.toml), and where an editable installation finds them.
_PLACES = (
    Path(__file__).with_name("configs"),
    Path(__file__).parents[2] / "configs",
)


def shipped(name: str) -> str:
    """The text of a file, by its path below `configs/`.

    Raises:
        FileNotFoundError: the installation is not whole.
    """
    for place in _PLACES:
        path = place / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FileNotFoundError(f"configs/{name} did not come with this installation of qdec")
