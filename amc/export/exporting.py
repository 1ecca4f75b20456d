"""Writing a network in a format; the file is checked before it is put in place."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from amc.errors import ExportError
from amc.export.formats import FORMATS, Exportable
from amc.export.verify import largest_difference
from amc.runtime.call import call, first_line
from amc.runtime.inputs import fresh_input
from amc.utils.durable_files import put_in_place, sync_folder
from amc.utils.scratch_folder import scratch_folder


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: The file, or the folder of safetensors.
        format: Name of the format.
        size_bytes: Size on disk.
        difference: Largest difference from PyTorch's outputs, as a share of the largest output.
    """

    path: Path
    format: str
    size_bytes: int
    difference: float


def export_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    format: str = "onnx",
    example_input: Any = None,
    *,
    architecture: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Writes a network to a file and verifies the file against PyTorch's outputs.

    The file is read back and run on fresh random inputs, at batch sizes 1 and 3; it is put in place only if its
    outputs are those of the network. Graphs accept any batch size.

    Args:
        model: The network; it stays as it is. Its tensors may be on any device.
        path: The file to write; a folder for safetensors.
        format: `"onnx"`, `"torch_export"` or `"safetensors"`.
        example_input: One input: a tensor with a batch axis, a tuple of positional or a mapping of keyword arguments.
        architecture: For safetensors: how the network was cut (`CompressionResult.architecture`).
        metadata: Texts by name that an ONNX file carries, such as how to prepare pictures.
        overwrite: Whether an existing file or folder at `path` may be replaced.

    Returns:
        Size and difference of what was written.

    Raises:
        UnknownNameError: If the format does not exist.
        ConfigurationError: If the example input has no batch axis.
        ExportError: If the path is taken, the network cannot be exported, or the file's outputs differ.
    """
    writer, target = FORMATS.get(format), Path(path)
    check_target(target, folder=format == "safetensors", overwrite=overwrite)
    if example_input is None:
        raise ExportError("an export is checked on an input like yours; give example_input=")
    network = replace(exportable(model, example_input, architecture), metadata=metadata or {})
    writer.check(network)
    _check_runs(network)
    try:
        with scratch_folder(_existing_folder(target), ".amc-export-") as scratch:
            written = scratch / target.name
            writer.write(network, written)
            difference = largest_difference(network.model, writer.read(network, written), network.example)
            if not difference <= writer.tolerance:
                raise ExportError(
                    f"the outputs of the {format} file must equal PyTorch's to {writer.tolerance:g} of the largest "
                    f"output, but differ by {difference:.2g}; choose another --format"
                )
            size = size_on_disk(scratch)
            check_target(target, folder=format == "safetensors", overwrite=overwrite)  # another export may be done
            _put_in_place(scratch, target)
    except OSError as error:
        raise ExportError(f"the export must be writable: {error}; choose another --out") from error
    return ExportReport(target, format, size, difference)


def exportable(model: nn.Module, example: Any, architecture: Mapping[str, Any] | None) -> Exportable:
    """Copies a network to the CPU in evaluation mode, and makes an input with two rows."""
    twin = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    example = tree_map(lambda item: item.cpu() if isinstance(item, torch.Tensor) else item, example)
    return Exportable(twin, fresh_input(example, 2, torch.Generator().manual_seed(0)), architecture)


def check_target(path: Path, *, folder: bool, overwrite: bool) -> None:
    """Checks that a path may be written.

    Raises:
        ExportError: If something at the path must not, or cannot, be replaced.
    """
    if not path.exists():
        return
    if path.is_dir() != folder:
        raise ExportError(f"--out must name a {'folder' if folder else 'file'} for this format, and {path} is none")
    if not overwrite:
        raise ExportError(f"{path} exists already; give another --out, or --overwrite")


def size_on_disk(path: Path) -> int:
    """Returns the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _check_runs(network: Exportable) -> None:
    """Runs the network once, so that an unsuitable input is not mistaken for a failure of the exporter."""
    try:
        with torch.no_grad():
            call(network.model, network.example)
    except Exception as error:  # whatever the network's layers raise
        raise ExportError(
            f"the network must run on the example input, but fails: {first_line(error)}; "
            "give the shape of one input by --input_shape, such as --input_shape 3 32 32"
        ) from error


def _existing_folder(path: Path) -> Path:
    """Returns the nearest folder above a path that exists."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def _put_in_place(scratch: Path, target: Path) -> None:
    """Moves everything below `scratch` beside `target`, whose folder is made if need be.

    What the export is known by comes last, a new folder at once: a kill leaves nothing that looks whole and is not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = scratch / target.name
    if whole.is_dir() and not target.exists():
        _sync(whole)
        whole.rename(target)
        sync_folder(target.parent)
        return
    files = [file for file in sorted(scratch.rglob("*")) if file.is_file()]
    for file in sorted(files, key=lambda file: file == whole):
        place = target.parent / file.relative_to(scratch)
        place.parent.mkdir(parents=True, exist_ok=True)
        put_in_place(file, place)


def _sync(folder: Path) -> None:
    """Makes the disk confirm the files in a folder, and their names."""
    for file in folder.iterdir():
        put_in_place(file, file)
