"""Weights that torchvision and timm publish: found in the local caches, downloaded only on request."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from amc.errors import CheckpointError, ConfigurationError
from amc.models.factory import OWN_MODELS, find_factory, is_own_code

_HASH = re.compile(r"-([a-f0-9]{6,})\.")
_OTHER_INPUTS = ("googlenet", "inception_v3")
"""For these networks torchvision changes the input transform along with the trained weights."""
_HF_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Published:
    """Weights of a library.

    Attributes:
        title: Their name, for people. file: Their path on this machine; None if they are not here. place: Where they
        are looked for.
        fetch: Downloads them and returns the file.
    """

    title: str
    file: Path | None
    place: str
    fetch: Callable[[], Path]


def own_weights(name: str, *, download: bool) -> tuple[Path, str]:
    """Returns the file of the weights that a network's library publishes, and what they are called.

    Args:
        name: As for `amc.create_model`.
        download: Whether they may be fetched where this machine does not have them.

    Raises:
        UnknownNameError: If there is no such network.
        ConfigurationError: If the library publishes no weights for it.
        CheckpointError: If they are not here, and may not or cannot be fetched.
    """
    found = published_weights(name)
    if found.file is not None:
        return found.file, f"{found.title}, {found.file}"
    if not download:
        raise CheckpointError(
            f"{found.title} must be on this machine, and nothing lies at {found.place}; fetch them with "
            "--weights.download true, or give a file with --weights FILE"
        )
    try:
        return (file := found.fetch()), f"{found.title}, fetched to {file}"
    except Exception as error:  # whatever the network and the libraries raise
        line = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{found.title} cannot be fetched: {type(error).__name__}: {line}; put the file at {found.place} yourself, "
            "or give one with --weights FILE"
        ) from error


def published_weights(name: str) -> Published:
    """Returns which weights a network's library publishes; nothing is fetched. See `own_weights`."""
    find_factory(name)
    prefix, _, bare = name.rpartition(":")
    if prefix == "timm":
        return _of_timm(bare)
    if name in OWN_MODELS or is_own_code(name):
        raise ConfigurationError(
            f"{name} has no published weights for --weights DEFAULT; give a file with --weights FILE"
        )
    return _of_torchvision(bare)


def _of_torchvision(name: str) -> Published:
    import torchvision

    if name in _OTHER_INPUTS:
        raise ConfigurationError(
            f"{name} reads images in another way with its published weights (transform_input); build it in a function "
            "of your own, and give that as --model package.module:factory"
        )
    weights = torchvision.models.get_model_weights(name).DEFAULT
    return _by_url(f"{weights} of torchvision", weights.url)


def _of_timm(name: str) -> Published:
    config = importlib.import_module("timm").get_pretrained_cfg(name)
    title = f"{name} of timm"
    if config is None or not (config.hf_hub_id or config.url) or config.custom_load:
        raise ConfigurationError(f"timm has no weights for {name} as a file; give one with --weights FILE")
    tagged = f"{config.architecture}.{config.tag}" if config.tag else name
    title = f"{tagged} of timm"
    hub = _of_hugging_face(title, config) if config.hf_hub_id else None
    direct = _by_url(title, config.url) if config.url else None
    found = [each for each in (hub, direct) if each is not None]
    return next((each for each in found if each.file is not None), found[0])


def _by_url(title: str, url: str) -> Published:
    """Describes weights that torch.hub would keep."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return Published(title, file if file.is_file() else None, str(file), partial(_download, url, file))


def _download(url: str, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    checked = _HASH.search(file.name)
    torch.hub.download_url_to_file(url, str(file), hash_prefix=checked[1] if checked else None, progress=False)
    return file


def _of_hugging_face(title: str, config: Any) -> Published:
    """Describes weights in the cache of huggingface_hub."""
    hub, constants = (importlib.import_module(f"huggingface_hub{part}") for part in ("", ".constants"))
    names = (config.hf_hub_filename,) if config.hf_hub_filename else _HF_FILES
    found = (hub.try_to_load_from_cache(config.hf_hub_id, name) for name in names)
    file = next((Path(each) for each in found if isinstance(each, str)), None)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{config.hf_hub_id.replace('/', '--')}"
    return Published(title, file, str(folder), partial(_from_hub, hub, config.hf_hub_id, names))


def _from_hub(hub: Any, repository: str, names: Sequence[str]) -> Path:
    """Fetches the first of the names that a repository has."""
    for name in names[:-1]:
        if hub.file_exists(repository, name):
            return Path(hub.hf_hub_download(repository, name))
    return Path(hub.hf_hub_download(repository, names[-1]))
