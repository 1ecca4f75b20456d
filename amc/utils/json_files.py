"""JSON files that are replaced at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amc.utils.durable_files import write_text


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON file at once, so that a kill leaves the old or the new one; NaN becomes null."""
    write_text(path, json.dumps(without_nan(record), indent=2) + "\n")


def without_nan(value: Any) -> Any:
    """Replaces NaN, which JSON does not have, by None, all the way down."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
