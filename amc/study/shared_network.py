"""A dense network that several studies train alike is trained once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from amc.pipeline.config import RunConfig, as_mapping
from amc.storage.names import DENSE
from amc.utils.durable_files import replacing

OF_DENSE = ("model", "weights", "classes", "train_first", "data", "train", "seed", "device")
"""The options that decide what the dense network is."""


class SharedNetworks:
    """Hands the dense network that one study has trained to the next that would train the same."""

    def __init__(self) -> None:
        """Starts with none."""
        self._first: dict[str, Path] = {}

    def share(self, config: RunConfig, folder: Path) -> None:
        """Puts a network where the study of a folder looks for its own, if an earlier study has trained it."""
        record = as_mapping(replace(config, agent="uniform"))
        training = json.dumps({name: record[name] for name in OF_DENSE}, sort_keys=True, default=str)
        place = folder / DENSE
        trained = self._first.setdefault(training, place)
        if trained == place or not trained.is_file() or place.is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(place) as partial:
            partial.write_bytes(trained.read_bytes())
