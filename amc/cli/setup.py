"""From a run's configuration to its network and data."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

from amc.architecture import ModelSource
from amc.config import RunConfig
from amc.costs import Budget
from amc.models import create_model, load_weights
from amc.report.progress import ProgressDisplay
from amc.training import DataConfig, DataRoles, load_data


def load_roles(config: DataConfig, seed: int, display: ProgressDisplay) -> DataRoles:
    """Loads the data, with progress where images have to be decoded.

    Raises:
        DataError: If the data cannot be found, read or split.
    """
    if config.name == "digits":
        return load_data(config, seed=seed)
    with display.stage(f"load {config.name}", 1, "images") as advance:
        return load_data(config, seed=seed, progress=lambda done, total: advance(done, f"of {total}"))


def model_source(config: RunConfig, num_classes: int | None) -> ModelSource:
    """Describes how the dense network is built: with the data's number of classes, unless it is the user's own code."""
    own_code = ":" in config.model and config.model.partition(":")[0] not in ("torchvision", "timm")
    options = {} if own_code or num_classes is None else {"num_classes": num_classes}
    return ModelSource("name", config.model, options)


def build_model(config: RunConfig, num_classes: int | None) -> tuple[nn.Module, ModelSource]:
    """Builds the dense network and loads its weights.

    Raises:
        ModelError: If it cannot be built.
        CheckpointError: If the weights do not fit.
    """
    source = model_source(config, num_classes)
    model = create_model(source.reference, seed=config.seed, **source.options)
    if config.weights:
        load_weights(model, Path(config.weights))
    return model, source


def budget_of(config: RunConfig) -> Budget:
    """Returns the budget; half the FLOPs if none is set.

    Raises:
        BudgetError: If it is malformed.
    """
    flops, params = (_whole(value) for value in (config.budget.flops, config.budget.params))
    return Budget(flops=0.5) if flops is None and params is None else Budget(flops=flops, params=params)


def _whole(value: float | None) -> float | int | None:
    """Returns counts as integers; shares stay as they are."""
    return int(value) if value is not None and value > 1 and value == int(value) else value


def display() -> ProgressDisplay:
    """Returns the progress display of the command line: on stderr, so that stdout holds results alone."""
    return ProgressDisplay(sys.stderr)
