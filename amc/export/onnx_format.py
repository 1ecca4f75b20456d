"""ONNX files, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amc.errors import ExportError
from amc.export.attention import with_attention_over_four_axes
from amc.export.formats import Exportable, Runner
from amc.export.graph import export_failure, first_cause, trace_graph
from amc.runtime.inputs import tensors_in
from amc.runtime.quiet import quiet

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_ONE_FILE_BYTES = 1_500_000_000  # a protobuf holds 2 GB; larger weights go into a second file


class OnnxFormat:
    """Writes an ONNX graph with a batch axis of any length."""

    default_name = "model.onnx"
    tolerance = 1e-4

    def check(self, network: Exportable) -> None:
        """Checks that the packages are installed.

        Raises:
            ExportError: If one is missing.
        """
        missing = [name for name in _PACKAGES if find_spec(name) is None]
        if missing:
            raise ExportError(f"ONNX export needs {', '.join(missing)}; install with: pip install {' '.join(missing)}")

    def write(self, network: Exportable, path: Path) -> None:
        """Writes the graph and its weights.

        Raises:
            ExportError: If PyTorch cannot export the network.
            OSError: If the file cannot be written.
        """
        # Traced here: given the module, PyTorch's exporter may silently fix the batch size.
        program = trace_graph(network, "onnx", numbers=False)
        large = _weight_bytes(network.model) > _ONE_FILE_BYTES
        try:
            with quiet():
                _export(with_attention_over_four_axes(program), path, large)
            if network.metadata:
                _add_metadata(path, network.metadata)
        except Exception as error:  # the exporter has no exception of its own for what it cannot do
            if isinstance(cause := first_cause(error), OSError):  # a full disk, say: the network was traced before
                raise cause from error
            raise export_failure("onnx", error) from error

    def read(self, network: Exportable, path: Path) -> Runner:
        """Opens the file in onnxruntime, on the CPU."""
        return open_session(path)


def _export(program: torch.export.ExportedProgram, path: Path, large: bool) -> None:
    """Writes a graph, without the exporter's own simplifications where these break it.

    One of them merges clamps that follow each other, and then names tensors that nothing makes (onnxscript 0.7.2).
    """
    import onnx

    write = partial(torch.onnx.export, program, (), path, dynamo=True, verbose=False, external_data=large)
    write()
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError:
        write(optimize=False)


def _add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Writes texts into an ONNX file; weights in a second file stay there."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def open_session(path: Path) -> Runner:
    """Opens an ONNX file in onnxruntime, on the CPU, with as many threads as PyTorch has.

    Raises:
        ExportError: If onnxruntime rejects it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin between runs would slow the other network when two are timed in turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise ExportError(f"onnxruntime must be able to open {path.name}: {error}; update onnxruntime") from error
    names = [entry.name for entry in session.get_inputs()]

    def run(example: Any) -> list[torch.Tensor]:
        # The graph takes the tensors in the order of the example that it was exported with.
        feed = {name: tensor.cpu().numpy() for name, tensor in zip(names, tensors_in(example), strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, feed)]

    return run


def _weight_bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


FORMAT = OnnxFormat()
