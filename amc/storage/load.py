"""Loading what a run delivered: no search machinery, no pickle."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from amc.errors import CheckpointError, RunFolderError
from amc.runtime.call import move
from amc.runtime.plain import unwrapped
from amc.storage.architecture import rebuild
from amc.storage.fit import WeightsHeader, check_stored, check_values, read_header
from amc.storage.names import ARCHITECTURE, POLICY, WEIGHTS
from amc.storage.packed import header_of, open_packed, packed_tensors
from amc.storage.source import remember_cuts
from amc.structure.slicing import set_tensors
from amc.utils.plain_json import read_json
from amc.utils.sealed_tensors import read_sealed
from amc.utils.sparse_tensors import unpacked


def load(path: str | os.PathLike[str], model: nn.Module | None = None, *, trust: bool = False) -> nn.Module:
    """Loads the network that a run or `CompressionResult.save` wrote, or that was packed into one file.

    Files are data: no code from a folder is run. A network that this project, torchvision or timm builds
    by name needs nothing but the folder; any other needs `model` or `trust`.

    Args:
        path: The folder with `architecture.json` and `model.safetensors`, or the file of `amc pack`.
        model: The dense network, needed if it is of a class of your own; it is changed in place.
        trust: Whether the class or function that the folder names (`"package.module:Class"`) may be imported and called
            without arguments. This runs that code, so use it only for folders from people you trust.

    Returns:
        The pruned network in evaluation mode, on the CPU.

    Raises:
        RunFolderError: If the folder does not hold a network.
        CheckpointError: If its files do not fit each other or the network.
        ConsentError: If the folder names code, and neither `model` nor `trust` is given.
        ModelError: If the dense network cannot be built.

    Example:
        >>> import amc, tempfile, torch
        >>> task = amc.OwnTask(evaluate=lambda network: 1.0, example_input=torch.zeros(1, 1, 8, 8))
        >>> model = amc.create_model("digits_resnet", seed=0)
        >>> result = amc.compress(model, task, amc.Budget(flops=0.5), agent="uniform")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result.save(folder)
        ...     network = amc.load(folder)
        >>> network(task.example_input).shape
        torch.Size([1, 10])
    """
    folder = Path(path)
    given = None if model is None else unwrapped(model)
    if folder.is_file():
        return _load_packed(folder, given, trust=trust)
    record, file = read_architecture(folder), folder / WEIGHTS
    if not file.is_file():
        raise RunFolderError(f"{folder} must hold {WEIGHTS}; finish the run with --resume first")
    network = rebuild(record, given, trust=trust, header=read_header(file))
    move(network, device="cpu")
    fill(network, file, bounded=given is None and not trust)
    remember_cuts(network, record)
    return network.eval()


def _load_packed(file: Path, given: nn.Module | None, *, trust: bool) -> nn.Module:
    """Loads the network of a packed file; see `load`."""
    archive = open_packed(file)
    header = header_of(archive)
    network = rebuild(archive.record["architecture"], given, trust=trust, header=header)
    remember_cuts(network, archive.record["architecture"])
    move(network, device="cpu")
    _fill(network, header, lambda: packed_tensors(archive, file), file, bounded=given is None and not trust)
    return network.eval()


def read_architecture(folder: Path) -> dict[str, Any]:
    """Reads `architecture.json`.

    Raises:
        RunFolderError: If it is missing, or holds no JSON object.
    """
    file = folder / ARCHITECTURE
    try:
        record = read_json(file)
    except FileNotFoundError as error:
        remedy = "give the folder that --out named, or finish the run with --resume"
        if (folder / POLICY).is_file():
            remedy = f"it holds a policy: amc prune {folder}, or finish an amc compress with --resume"
        raise RunFolderError(
            f"{folder} must be a finished run's folder, but has no {ARCHITECTURE}; {remedy}"
        ) from error
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} must be readable JSON: {error}") from error
    if not isinstance(record, dict):
        raise RunFolderError(f"{file} must hold a JSON object, not a {type(record).__name__}; save the network again")
    return dict(record)


def fill(network: nn.Module, file: Path, *, bounded: bool = False) -> None:
    """Loads a safetensors file strictly, in place; of tensors that are shared, one is stored.

    Args:
        network: The network, cut as the one that the file is of.
        file: The file.
        bounded: Whether integers, which index into tables, must lie within the range of the network's own.

    Raises:
        CheckpointError: If the file cannot be read or does not fit the network.
    """
    _fill(network, read_header(file), lambda: unpacked(read_sealed(str(file))), file, bounded=bounded)


def _fill(
    network: nn.Module, header: WeightsHeader, read: Callable[[], Mapping[str, Tensor]], file: Path, *, bounded: bool
) -> None:
    """Loads the tensors of a file, which are read once their header has been checked; see `fill`."""
    from safetensors import SafetensorError

    check_stored(network, header.tensors)
    own = network.state_dict()
    try:
        stored = OrderedDict(read())
        check_values(own, stored, bounded=bounded)
        # A network comes back in the number format of the file, even if its class builds another.
        set_tensors(network, {name: own[name].to(value.dtype) for name, value in stored.items()})
        own = network.state_dict()
        # Some networks (MNASNet) read the version of their modules, which safetensors does not keep.
        stored._metadata = own._metadata  # type: ignore[attr-defined]
        missing, _ = network.load_state_dict(stored, strict=False)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} does not fit its architecture.json: {error}; if the network that was compressed is "
            "not what its class builds (it was pruned before, say), give it: amc.load(folder, model=...)"
        ) from error
    filled = {own[name].data_ptr() for name in stored}
    missing = [name for name in missing if own[name].data_ptr() not in filled]
    if missing:
        raise CheckpointError(
            f"{file} does not fit its architecture.json: it lacks {missing[0]!r} and others, {len(missing)} in all"
        )
