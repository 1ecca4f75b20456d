"""The environment of a run: device, threads, and versions of the packages that figures depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from amc.errors import ConfigurationError
from amc.runtime.processor import processor
from amc.storage.names import ENVIRONMENT
from amc.utils.conversion import from_mapping
from amc.utils.json_files import write_json
from amc.utils.plain_json import as_type, read_json
from amc.utils.versions import versions

_MOST_THREADS = 1024


@dataclass(frozen=True)
class Environment:
    """What can make two runs with the same seed differ in their last digits.

    Attributes:
        device: The kind of device, with the name of a GPU.
        threads: Threads of the CPU.
        versions: Of Python and packages, by name.
        processor: Its name, and the widest instructions that are used; empty in files of earlier states.
    """

    device: str
    threads: int
    versions: Mapping[str, str] = field(default_factory=dict)
    processor: str = ""

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
        return Environment(name, threads, versions(), processor())

    @staticmethod
    def read(folder: Path) -> Environment:
        """Reads the environment that the work in a folder was begun in.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it holds something else.
            ConfigurationError: If its values cannot be.
        """
        return from_mapping(Environment, as_type(read_json(folder / ENVIRONMENT), dict[str, Any]))

    def write(self, folder: Path) -> None:
        """Writes `environment.json` into a folder."""
        write_json(folder / ENVIRONMENT, asdict(self))

    def differences(self, other: Environment) -> list[str]:
        """Describes how another environment differs, as in `"torch 2.4.0, not 2.5.1"`."""
        own, others = (each._facts() for each in (self, other))
        names = [name for name in own if name in others and own[name] != others[name]]
        return [f"{name} {own[name]}, not {others[name]}" for name in names]

    def _facts(self) -> dict[str, str | int]:
        """Returns what is known, by name."""
        processor = {"processor": self.processor} if self.processor else {}
        return {"device": self.device, **processor, "threads": self.threads, **self.versions}
