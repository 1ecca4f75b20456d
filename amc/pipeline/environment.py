"""The environment of a run: device, threads, and versions of the packages that figures depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from amc.errors import ConfigurationError
from amc.utils.conversion import from_mapping
from amc.utils.versions import versions

_MOST_THREADS = 1024


@dataclass(frozen=True)
class Environment:
    """What can make two runs with the same seed differ in their last digits.

    Attributes:
        device: The kind of device, with the name of a GPU.
        threads: Threads of the CPU.
        versions: Of Python and packages, by name.
    """

    device: str
    threads: int
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the number of threads: PyTorch would crash if a file asked for very many.

        Raises:
            ConfigurationError: If it is out of range.
        """
        if not 1 <= self.threads <= _MOST_THREADS:
            raise ConfigurationError(f"threads must be from 1 to {_MOST_THREADS}, not {self.threads}")

    @staticmethod
    def here(device: torch.device, threads: int) -> Environment:
        """Describes this process."""
        name = str(device.type) if device.type == "cpu" else f"{device.type} ({torch.cuda.get_device_name(device)})"
        return Environment(name, threads, versions())

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> Environment:
        """Reads what `as_dict` returned.

        Raises:
            ConfigurationError: If it is something else.
        """
        return from_mapping(Environment, dict(record))

    def as_dict(self) -> dict[str, Any]:
        """Returns what `environment.json` holds."""
        return asdict(self)

    def differences(self, other: Environment) -> list[str]:
        """Describes how another environment differs, as in `"torch 2.4.0, not 2.5.1"`."""
        own, others = ({"device": each.device, "threads": each.threads, **each.versions} for each in (self, other))
        names = [name for name in own if name in others and own[name] != others[name]]
        return [f"{name} {own[name]}, not {others[name]}" for name in names]
