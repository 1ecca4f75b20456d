"""Files of `torch.export`: a graph with its weights, which loads without the model's class."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from amc.errors import ExportError
from amc.export.formats import Exportable, Runner
from amc.export.graph import arguments, export_failure, trace_graph
from amc.runtime.inputs import tensors_in
from amc.runtime.quiet import quiet


class TorchExportFormat:
    """Writes an exported program with a batch axis of any length."""

    default_name = "model.pt2"
    tolerance = 1e-4

    def check(self, network: Exportable) -> None:
        """Accepts every network: PyTorch has all that is needed."""

    def write(self, network: Exportable, path: Path) -> None:
        """Writes the graph and its weights.

        Raises:
            ExportError: If PyTorch cannot export the network.
            OSError: If the file cannot be written.
        """
        program, content = trace_graph(network, "torch_export"), io.BytesIO()
        try:
            with quiet():
                torch.export.save(program, content)  # not into the file: on a full disk PyTorch aborts the process
        except Exception as error:  # torch.export has no exception of its own for what it cannot do
            raise export_failure("torch_export", error) from error
        path.write_bytes(content.getbuffer())

    def read(self, network: Exportable, path: Path) -> Runner:
        """Loads the program.

        Raises:
            ExportError: If PyTorch cannot load what it wrote.
        """
        try:
            with quiet():
                module = torch.export.load(path).module()
        except Exception as error:
            raise ExportError(f"the program that torch.export wrote must load again: {error}; update torch") from error

        def run(example: object) -> list[torch.Tensor]:
            positional, named = arguments(example)
            return tensors_in(module(*positional, **named))

        return run


FORMAT = TorchExportFormat()
