"""Names of the time series that a service exports."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from helpers.lanes import config
from helpers.recordings import recording
from qdec.arena import Arena
from qdec.config import StreamConfig
from qdec.gateway.process import Gateway


def exported_names(folder: Path) -> set[str]:
    """Names of all samples of a service with one stream."""
    code = folder / "code.stim"
    code.write_text(recording("endless").text)
    settings = config(StreamConfig(name="patch0", code=code, endless=True, windows="6,3"))
    arena = Arena.create()
    page = Gateway(Arena(arena.reader()), settings).metrics("").body.decode()
    families = text_string_to_metric_families(page)
    return {sample.name for family in families for sample in family.samples}


def named_in(text: str) -> set[str]:
    """Metrics of ours that a text of queries names; recorded ones have colons."""
    return set(re.findall(r"(?<![\w:])qdec_[a-z0-9_]+\b(?!:)", text))
