"""A lane whose CLOCK_REALTIME can be stepped."""

from __future__ import annotations

from qdec.child import main
from qdec.lane.process import LaneProcess
from qdec_tools.chaos.changed import step_clock

if __name__ == "__main__":
    step_clock()
    main(lambda child: LaneProcess(child).run())
