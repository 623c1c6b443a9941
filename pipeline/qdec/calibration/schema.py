"""Publish the messages' JSON Schema: ``python -m qdec.calibration.schema docs/schemas``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qdec.calibration.request import Request
from qdec.calibration.response import Response


def schemas() -> dict[str, str]:
    """File name → text, for each message."""
    texts = {}
    for model in (Request, Response):
        name = f"{model.model_fields['type'].default}.v{model.model_fields['version'].default}"
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:qdec:{name}",
            **model.model_json_schema(mode="validation", by_alias=True),
        }
        texts[f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return texts


def main() -> None:
    """Write the files into a folder."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m qdec.calibration.schema FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
