"""Where networks come from that this package does not define: torchvision, timm, and the user's own code."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from amc.errors import ConfigurationError, UnknownNameError
from amc.utils.registry import import_own

ModelFactory = Callable[..., nn.Module]

# Their constructors warn unless told how to initialise, and the initialisation that they default to takes seconds.
_TORCHVISION_SLOW_INIT = ("googlenet", "inception_v3")


def torchvision_names() -> list[str]:
    """Returns the names of torchvision's classification models."""
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def torchvision_factory(name: str) -> ModelFactory:
    """Returns a constructor of a torchvision classification model; `name` must exist."""
    import torchvision

    def build(**options: Any) -> nn.Module:
        if name in _TORCHVISION_SLOW_INIT and options.get("weights") is None:
            options.setdefault("init_weights", False)
        model: nn.Module = torchvision.models.get_model(name, **options)
        return model

    return build


def timm_factory(name: str) -> ModelFactory:
    """Returns a constructor of a timm model.

    Raises:
        ConfigurationError: If timm is not installed.
        UnknownNameError: If timm has no such model.
    """
    timm = _import_timm()
    _check_timm_name(timm, name)

    def build(**options: Any) -> nn.Module:
        model: nn.Module = timm.create_model(name, **options)
        return model

    return build


def timm_input_shape(name: str) -> tuple[int, int, int]:
    """Returns the shape `(C, H, W)` that timm records for a model; (3, 224, 224) if it records none."""
    timm = _import_timm()
    _check_timm_name(timm, name)
    config = timm.get_pretrained_cfg(name)
    channels, height, width = config.input_size if config is not None else (3, 224, 224)
    return channels, height, width


def imported_factory(reference: str) -> ModelFactory:
    """Returns the function or class that `"package.module:factory"` names.

    Raises:
        ConfigurationError: If the reference is malformed, cannot be imported, or is not callable.
    """
    factory: object = import_own(reference)
    if not callable(factory):
        raise ConfigurationError(f"{reference!r} must name a function or class, not a {type(factory).__name__}")
    return factory


def _import_timm() -> Any:
    """Imports timm, or names the remedy."""
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ConfigurationError("'timm:NAME' needs the package timm; install it with: pip install timm") from error


def _check_timm_name(timm: Any, name: str) -> None:
    """Refuses names that timm does not know; a tag of pretrained weights may follow a dot."""
    if not timm.is_model(name):
        raise UnknownNameError("timm model", name, timm.list_models())
