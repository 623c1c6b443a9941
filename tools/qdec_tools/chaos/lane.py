"""A lane whose CLOCK_REALTIME can be stepped, and which leaves word of where it serves.

All lanes hold all listening sockets, so that from outside one looks like another.
"""

from __future__ import annotations

import os
from pathlib import Path

from qdec.child import main
from qdec.config import Config
from qdec.lane.process import LaneProcess
from qdec_tools.chaos.changed import FOLDER, step_clock, tell


class NamedLane(LaneProcess):
    """The service's own, with its pid in a file of the harness's folder."""

    _lane = 0

    def _set_up(self, config: Config, lane: int) -> None:
        self._lane = lane
        super()._set_up(config, lane)

    def _loop(self) -> None:
        tell(Path(os.environ[FOLDER]), f"lane{self._lane}", str(os.getpid()))
        super()._loop()


if __name__ == "__main__":
    step_clock()
    main(lambda child: NamedLane(child).run())
