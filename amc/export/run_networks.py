"""The networks of a run's folder: the pruned one, and the dense one that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amc.errors import AmcError, ConfigurationError, RunFolderError
from amc.models import example_input_shape
from amc.storage.example_input import random_input
from amc.storage.load import load, read_architecture
from amc.storage.source import ModelSource


@dataclass(frozen=True)
class RunNetworks:
    """The parts of a run that an export needs.

    Attributes:
        pruned: The network that the run delivered, in evaluation mode.
        dense: The dense network with random weights, which suffices for timing; None if it cannot be built again.
        example: An input with random values.
        architecture: `architecture.json`.
    """

    pruned: nn.Module
    dense: nn.Module | None
    example: Any
    architecture: dict[str, Any]

    @property
    def dense_architecture(self) -> dict[str, Any]:
        """The architecture of the dense network: nothing is cut."""
        return {**self.architecture, "groups": {}, "tensors": {}, "attributes": []}


def open_run(folder: Path, input_shape: Sequence[int] | None = None, *, trust: bool = False) -> RunNetworks:
    """Loads the networks of a run.

    Args:
        folder: The run's folder, or one that `CompressionResult.save` or an export wrote.
        input_shape: Shape of one input without the batch axis, in place of the recorded one.
        trust: Whether code that the folder names may be run; see `amc.load`.

    Raises:
        RunFolderError: If there is no finished run in the folder.
        ConfigurationError: If the shape of an input is not known.
        AmcError: If the network cannot be loaded.
    """
    if not folder.is_dir():
        raise RunFolderError(f"the run must be a folder, and {folder} is none; give the folder that --out named")
    pruned, architecture = load(folder, trust=trust), read_architecture(folder)
    source = ModelSource(**architecture["source"])
    return RunNetworks(
        pruned=pruned,
        dense=_build_dense(source, trust=trust),
        example=_example(architecture, source, input_shape),
        architecture=architecture,
    )


def _build_dense(source: ModelSource, *, trust: bool) -> nn.Module | None:
    try:
        return source.build(trust=trust).eval()
    except AmcError:
        return None


def _example(architecture: Mapping[str, Any], source: ModelSource, shape: Sequence[int] | None) -> Any:
    """Makes an input of the given shape, the recorded one, or the one that the network's name implies."""
    if shape is not None:
        if not shape or min(shape) < 1:
            raise ConfigurationError(f"--input_shape must be positive numbers, such as 3 32 32, not {list(shape)}")
        return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    if architecture.get("input"):
        return random_input(architecture["input"])
    try:
        return torch.randn(1, *example_input_shape(source.reference), generator=torch.Generator().manual_seed(0))
    except AmcError as error:
        raise ConfigurationError(
            f"the run does not tell the shape of an input of {source.reference!r}; "
            "give it without the batch axis, such as --input_shape 3 32 32"
        ) from error
