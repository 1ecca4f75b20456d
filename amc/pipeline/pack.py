"""Packing: weights share values, the shared values are trained, and all of it is written into one file."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from amc.data import DataRoles
from amc.errors import ExportError, UnknownNameError
from amc.packing.codec import Coded, coded
from amc.packing.settings import PackConfig
from amc.packing.sharing import INITIALISATIONS, Initialisation, shared
from amc.pipeline.recorder import Recorder, training_hooks
from amc.runtime.call import move
from amc.runtime.finite import all_finite
from amc.storage.architecture import describe
from amc.storage.load import load
from amc.storage.packed import open_packed, packed_tensors, save_packed
from amc.storage.source import ModelSource
from amc.training import FineTuneConfig, evaluate, fine_tune
from amc.training.defaults import fitted
from amc.training.shared_weights import SharedWeights
from amc.utils.folder_lock import sole_writer
from amc.utils.options import create


@dataclass(frozen=True)
class PackedLayer:
    """What a layer's weights take.

    Attributes:
        name: The layer.
        weights: How many weights it has.
        kept: How many of them are not zero.
        values: How many values those have.
        bits: Bits in the file, by what they are: codes, places, values, tables.
    """

    name: str
    weights: int
    kept: int
    values: int
    bits: Mapping[str, int]


@dataclass(frozen=True)
class PackReport:
    """The result of packing.

    Attributes:
        path: The file.
        size_bytes: Its size.
        model: The network that it holds: weights shared, on the CPU, in evaluation mode.
        layers: What each layer's weights take.
        accuracy: Test top-1 in percent, or the task's metric: of the network as it was (`before`), with shared weights
            (`shared`), and after these were trained (`trained`); empty without data.
    """

    path: Path
    size_bytes: int
    model: nn.Module = field(repr=False)
    layers: tuple[PackedLayer, ...]
    accuracy: Mapping[str, float]


def pack(
    model: nn.Module,
    path: str | os.PathLike[str],
    config: PackConfig | None = None,
    data: DataRoles | None = None,
    *,
    architecture: Mapping[str, Any] | None = None,
    finetune: FineTuneConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    recorder: Recorder | None = None,
) -> PackReport:
    """Writes a pruned network into one small file, as Deep Compression does (Han et al. 2016, arXiv:1510.00149).

    The weights of each layer that are not zero are clustered, and each becomes the centroid of its cluster. The
    centroids are trained; codes and positions are written with Huffman coding. `amc.load` reads the file, without
    pickle, and gives the same network bit for bit. Biases, norms and buffers stay as they are, and so does a layer that
    would not get smaller.

    Args:
        model: The network, pruned by weights or by channels, or not; it stays as it is.
        path: The file to write.
        config: Bits, clusters and training.
        data: The data to train the shared values on; without it they are not trained.
        architecture: How the network was cut: `CompressionResult.architecture`; needed if channels were cut.
        finetune: Batches, momentum and loss of the training; its epochs and learning rate are those of `config`, and
            its optimiser is SGD.
        seed: Of everything random.
        device: Where to train: auto, cpu or cuda.
        overwrite: Whether what is at `path` may be replaced.
        recorder: Reports the progress.

    Raises:
        ConfigurationError: If an option is wrong.
        UnknownNameError: If a pattern of `bits` matches no layer.
        ExportError: If the path is taken, or the weights are not finite.
        RunFolderError: If the file cannot be written, or another process writes it.
    """
    config, recorder, file = config or PackConfig(), recorder or Recorder(), Path(path)
    check_free(file, overwrite=overwrite)
    twin = copy.deepcopy(model).eval()
    matrices = matrices_of(twin)
    bits, index_bits = bits_of(matrices, config), _index_bits_of(matrices, config)
    _check_finite(twin)
    with sole_writer(file):
        check_free(file, overwrite=overwrite)
        accuracy = {} if data is None else {"before": _accuracy(twin, data, device)}
        _share_all(twin, bits, index_bits, create(INITIALISATIONS, config.initialisation), seed, recorder)
        if data is not None:
            accuracy["shared"] = _accuracy(twin, data, device)
            if config.pack_epochs:
                _train(twin, data, config, finetune or FineTuneConfig(), list(matrices), seed, device, recorder)
                accuracy["trained"] = _accuracy(twin, data, device)
        move(twin, device="cpu")
        record = architecture or describe(twin, None, {}, ModelSource.of(model))
        with recorder.stage("write") as advance:
            file.parent.mkdir(parents=True, exist_ok=True)  # if it was deleted meanwhile, what was trained is not lost
            check = partial(_check, network=twin, record=record)
            size, stored = save_packed(file, twin, record, index_bits, advance, check)
    layers = tuple(_layer(name, twin.get_parameter(name), stored[name]) for name in matrices if name in stored)
    return PackReport(file, size, twin.eval(), layers, accuracy)


def matrices_of(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the module of each parameter whose weights are shared, those of two dimensions or more, by name."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and parameter.is_floating_point():
            found[name] = model.get_submodule(name.rpartition(".")[0])
    return found


def bits_of(matrices: Mapping[str, nn.Module], config: PackConfig) -> dict[str, int]:
    """Returns the bits of a code, by parameter name.

    Raises:
        UnknownNameError: If a pattern matches no layer.
    """
    layers = {name.rpartition(".")[0] or name for name in matrices}
    for pattern in config.bits:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            raise UnknownNameError("layer", pattern, layers)
    found = {}
    for name, module in matrices.items():
        layer = name.rpartition(".")[0] or name
        own = [bits for pattern, bits in config.bits.items() if fnmatchcase(layer, pattern)]
        found[name] = (own or [config.conv_bits if isinstance(module, _ConvNd) else config.fc_bits])[0]
    return found


def _index_bits_of(matrices: Mapping[str, nn.Module], config: PackConfig) -> dict[str, int]:
    """Returns the bits of a step between two weights that stay, by parameter name."""
    return {
        name: config.conv_index_bits if isinstance(module, _ConvNd) else config.fc_index_bits
        for name, module in matrices.items()
    }


def check_free(file: Path, *, overwrite: bool) -> None:
    """Checks that a file may be written.

    Raises:
        ExportError: If there is something that must not or cannot be replaced.
    """
    if file.is_dir():
        raise ExportError(f"--out must name a file, and {file} is a folder")
    if file.exists() and not overwrite:
        raise ExportError(f"{file} exists already; give another --out, or --overwrite")


def _check_finite(network: nn.Module) -> None:
    """Rejects weights that are NaN or infinite.

    Raises:
        ExportError: If there are some.
    """
    for name, parameter in network.named_parameters():
        if not all_finite(parameter):
            raise ExportError(f"weights must be finite to be packed: {name!r} holds NaN or infinite values")


def _share_all(
    network: nn.Module,
    bits: Mapping[str, int],
    index_bits: Mapping[str, int],
    initialisation: Initialisation,
    seed: int,
    recorder: Recorder,
) -> None:
    """Lets the weights of every layer share values."""
    with recorder.stage("share weights", len(bits), "layers") as advance:
        for number, name in enumerate(bits, start=1):
            _share(name, network.get_parameter(name), bits[name], index_bits[name], initialisation, seed)
            advance(number / len(bits), name)


@torch.no_grad()
def _share(
    name: str, parameter: nn.Parameter, bits: int, index_bits: int, initialisation: Initialisation, seed: int
) -> None:
    """Lets a layer's weights share values, unless they take less space as they are."""
    found = shared(parameter, bits, initialisation, seed)
    if coded(name, found.cpu(), index_bits).entry.coding == "shared":
        parameter.copy_(found)


def _train(
    model: nn.Module,
    data: DataRoles,
    config: PackConfig,
    finetune: FineTuneConfig,
    names: list[str],
    seed: int,
    device: str,
    recorder: Recorder,
) -> None:
    """Trains the shared values in place, by SGD without decay, and without penalties.

    Both an adaptive step and a decay would count once for each weight that shares a value; see `SharedWeights`.
    """
    settings = replace(
        finetune,
        epochs=config.pack_epochs,
        learning_rate=config.pack_rate,
        optimizer="sgd",
        weight_decay=0.0,
        decay_by_layer={},
        penalties=(),
        distillation=0.0,
        feature_distillation=0.0,
        keep="best",
    )
    settings = fitted(settings, model, data)
    with training_hooks(recorder, "shared weights", len(data.train), settings) as hooks:
        fine_tune(model, data, settings, seed=seed, device=device, hooks=hooks, terms=[SharedWeights(names)])


def _accuracy(model: nn.Module, data: DataRoles, device: str) -> float:
    return evaluate(model, data.test, device=device, task=data.task).accuracy


def _check(file: Path, network: nn.Module, record: Mapping[str, Any]) -> None:
    """Reads a file back and compares, bit for bit.

    Raises:
        ExportError: If something differs.
    """
    if ModelSource(**record["source"]).needs_trust:
        found = packed_tensors(open_packed(file), file)
    else:
        found = load(file).state_dict()
    for name, tensor in network.state_dict().items():
        if name in found and not torch.equal(found[name], tensor):
            raise ExportError(f"tensors must come back as they were written, but {name!r} does not; please report it")


def _layer(name: str, parameter: nn.Parameter, stored: Coded) -> PackedLayer:
    kept = parameter.detach()[parameter.detach() != 0]
    values = len(torch.unique(kept))
    return PackedLayer(name.removesuffix(".weight"), parameter.numel(), len(kept), values, dict(stored.bits))
