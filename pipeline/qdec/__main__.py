"""``python -m qdec``."""

from qdec.cli import main

main()
