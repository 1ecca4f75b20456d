"""What a format of export is, and the formats by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from amc.utils.registry import Registry

Runner = Callable[[Any], list[Tensor]]
"""Runs a network that was read back: takes an input like the example, returns the output's tensors in order."""


@dataclass(frozen=True)
class Exportable:
    """A network to export.

    Attributes:
        model: The network, in evaluation mode on the CPU.
        example: An input with two rows in the batch axis (graphs traced with one row hold for one only).
        architecture: How the network was cut, as `architecture.json` holds it; None if not known.
        metadata: Texts by name that an ONNX file carries.
    """

    model: nn.Module
    example: Any
    architecture: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class ExportFormat(Protocol):
    """Writes a network to a file, or a folder, and reads it back.

    Attributes:
        default_name: Name of the file (or folder) unless the user gives one.
        tolerance: Largest difference of outputs that passes, as a share of the largest output.
    """

    default_name: str
    tolerance: float

    def check(self, network: Exportable) -> None:
        """Raises `ExportError` before any work is done if the format cannot be written at all."""

    def write(self, network: Exportable, path: Path) -> None:
        """Writes the network to a path in an existing folder; files beside it may carry its name as a prefix."""

    def read(self, network: Exportable, path: Path) -> Runner:
        """Reads what `write` wrote for the network."""


FORMATS: Registry[ExportFormat] = Registry("export format")
FORMATS.register("onnx", "amc.export.onnx_format:FORMAT", "ONNX graph, for onnxruntime and other engines")
FORMATS.register("torch_export", "amc.export.torch_format:FORMAT", "graph of torch.export, needs no model class")
FORMATS.register("safetensors", "amc.export.safetensors_format:FORMAT", "folder that amc.load reads")
