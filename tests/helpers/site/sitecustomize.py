"""Python starts with this where it is found: processes of a test's service log to its journal."""

from __future__ import annotations

import os

if "QDEC_TESTS_JOURNAL" in os.environ:
    from qdec import logs

    logs.JOURNAL_SOCKET = os.environ["QDEC_TESTS_JOURNAL"]
