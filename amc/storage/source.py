"""Where a file says its dense network comes from, and which of these sources may be built.

A file may name only what this project itself builds: its own networks, torchvision's and timm's, with plain options and
without their trained weights. Anything else is someone else's code, which runs only where the caller allows it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from amc.errors import CheckpointError, ConsentError, ModelError
from amc.models.factory import build, create_model, is_own_code, origin_of
from amc.models.sources import imported_factory

_PLAIN: dict[str, type | tuple[type, ...]] = {
    "num_classes": int,
    "in_channels": int,
    "in_chans": int,
    "image_size": int,
    "img_size": int,
    "dropout": (int, float),
    "drop_rate": (int, float),
    "aux_logits": bool,
    "init_weights": bool,
    "transform_input": bool,
}
"""Options that a file may give to a network by name, and their types."""
_DOWNLOADS = ("weights", "weights_backbone", "pretrained", "pretrained_cfg", "checkpoint_path")
_LARGEST_OPTION = 1 << 20
_EARLIER: WeakKeyDictionary[nn.Module, Mapping[str, Any]] = WeakKeyDictionary()
"""How each loaded network was cut from its dense one, kept while the network exists."""
_REMEDY = "pass the dense network: amc.load(folder, model=...)"


class _WeightsOnMeta(TorchFunctionMode):
    """Makes weights without values, for networks that compute with small tensors while they are built (RegNets)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function; tensors that are made to be filled later get no memory."""
        named = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and named.get("device") is None:
            named["device"] = "meta"
        return func(*args, **named)


def remember_cuts(model: nn.Module, record: Mapping[str, Any]) -> None:
    """Notes how a network was cut from its dense one, so that further cuts are described in terms of the dense one.

    Args:
        model: The network, as it was loaded.
        record: What `amc.storage.architecture.describe` returned of it.
    """
    _EARLIER[model] = record


@dataclass(frozen=True)
class ModelSource:
    """Where the dense network comes from.

    Attributes:
        kind: `"name"` (see `amc.create_model`) or `"class"`, a class of the user's.
        reference: The name, `"package.module:factory"`, or `"package.module:Class"`.
        options: Keyword arguments for building it.
        earlier: The record of how a network was cut from this one before, where it is pruned further.
    """

    kind: str
    reference: str
    options: Mapping[str, Any] = field(default_factory=dict)
    earlier: Mapping[str, Any] | None = None

    @staticmethod
    def of(model: nn.Module) -> ModelSource:
        """Describes a network by the name from which `amc.create_model` built it, any other by its class alone.

        A network that `amc.load` has loaded is described by the dense one that it was cut from, and how.
        """
        earlier = _EARLIER.get(model)
        if earlier is not None:
            return ModelSource(**earlier["source"], earlier=earlier)
        name, options = origin_of(model) or ("", {})
        if name and not is_own_code(name) and options.keys() <= _PLAIN.keys():
            return ModelSource("name", name, options)
        cls = type(model)
        return ModelSource("class", f"{cls.__module__}:{cls.__qualname__}")

    @property
    def needs_trust(self) -> bool:
        """Whether building it runs code from outside this project, torchvision and timm."""
        return self.kind != "name" or is_own_code(self.reference)

    def build(self, *, trust: bool = False) -> nn.Module:
        """Builds the dense network with random weights; nothing is downloaded.

        Args:
            trust: Whether code that the source names may be imported and called. The import path stays as it is.

        Raises:
            ConsentError: If it names such code and `trust` is not given.
            CheckpointError: If an option is none that a file may give.
            ModelError: If it cannot be built; the remedy is to pass `model=` to `amc.load`.
        """
        self._refuse_downloads()
        if not self.needs_trust:
            self._check_options()
            return create_model(self.reference, **self.options)
        if self.kind == "class" and self.reference.startswith("torch.nn."):
            name = self.reference.rpartition(":")[2]
            raise ModelError(f"the network is of the class {name}, which says nothing of its layers; {_REMEDY}")
        if not trust:
            raise ConsentError(
                f"the file names code of its own, {self.reference!r}, which is not run unless you ask for it: "
                "if you trust who wrote it, use amc.load(folder, trust=True), on the command line --trust, "
                f"or {_REMEDY}"
            )
        return self._build_trusted()

    def outline(self) -> nn.Module | None:
        """Builds a network by name whose tensors have shapes and no values; None if that cannot be done.

        Raises:
            CheckpointError: If an option is none that a file may give.
        """
        if self.needs_trust:
            return None
        self._refuse_downloads()
        self._check_options()
        for mode in (torch.device("meta"), _WeightsOnMeta()):
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), mode, suppress(ModelError):
                warnings.simplefilter("ignore")
                return create_model(self.reference, **self.options)
        return None

    def _build_trusted(self) -> nn.Module:
        """Imports and calls what the source names."""
        try:
            factory = imported_factory(self.reference, own=False)
        except Exception as error:  # whatever importing the user's module runs into
            raise ModelError(f"{self._not_found(error)}, or {_REMEDY}") from error
        try:
            return build(self.reference, factory, **self.options)
        except ModelError as error:
            raise ModelError(
                f"the class {self.reference!r} cannot be built without arguments: {error.__cause__ or error}; {_REMEDY}"
            ) from error

    def _refuse_downloads(self) -> None:
        for name in _DOWNLOADS:
            if self.options.get(name):
                raise CheckpointError(
                    f"the source in architecture.json must not fetch trained weights, and has {name}; {_REMEDY}"
                )

    def _check_options(self) -> None:
        for name, value in self.options.items():
            if name in _DOWNLOADS:
                continue
            kind = _PLAIN.get(name)
            if kind is None:
                known = ", ".join(_PLAIN)
                raise CheckpointError(f"the options in architecture.json may be {known}, not {name[:80]!r}; {_REMEDY}")
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise CheckpointError(f"the option {name} in architecture.json has a value of another type; {_REMEDY}")
            if not 0 <= cast(float, value) <= _LARGEST_OPTION:
                raise CheckpointError(f"the option {name} in architecture.json must not be {value}; {_REMEDY}")

    def _not_found(self, error: Exception) -> str:
        """Explains why the class cannot be imported, with half of the remedy."""
        module, _, name = self.reference.partition(":")
        if module == "__main__":
            return (
                f"the network's class {name!r} is defined in a script, where nothing else finds it; move it to a module"
            )
        remedy = "put the folder of its module on PYTHONPATH"
        return f"the network's class {self.reference!r} must be importable: {error}; {remedy}"
