"""Settings that every test shares."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

from qdec.security.keys import forget_environment

# The same examples every time, so that a red test stays red; HYPOTHESIS_PROFILE=explore looks
# further, at random.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", settings.get_profile("steady"), derandomize=False, max_examples=2_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# Whoever runs the tests may have keys; the tests' services do not know them.
forget_environment()

# A shell that starts tests in the background has them ignore Ctrl-C, and what they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
