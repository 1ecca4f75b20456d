"""Sources of networks outside this package: torchvision, timm, and the user's own code."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from amc.errors import ConfigurationError, UnknownNameError
from amc.utils.registry import import_object, import_own

ModelFactory = Callable[..., nn.Module]

# Their constructors warn where no initialisation is named, and the initialisation that they default to takes seconds.
_TORCHVISION_SLOW_INIT = ("googlenet", "inception_v3")
_NO_FACTORIES = ("torch", "numpy", "scipy", "PIL", "yaml", "safetensors")


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


def imported_factory(reference: str, *, own: bool) -> ModelFactory:
    """Returns the function or class that `"package.module:factory"` names; nothing is called yet.

    Args:
        reference: The reference.
        own: Whether the user has written it, so that modules in the current folder are found too.

    Raises:
        ConfigurationError: If the reference is malformed, cannot be imported, or names something that makes no network.
    """
    factory: object = (import_own if own else import_object)(reference)
    obstacle = _not_a_factory(factory)
    if obstacle is not None:
        raise ConfigurationError(
            f"{reference!r} must name an nn.Module class or a function that makes one, not {obstacle}"
        )
    return typing.cast(ModelFactory, factory)


def _not_a_factory(factory: object) -> str | None:
    """Explains why something makes no network, as far as that is clear without a call; None if it may.

    Code of Python's own library and of PyTorch counts only where it is a network's class, or says that it returns one.
    """
    if isinstance(factory, partial):
        return _not_a_factory(factory.func)
    if isinstance(factory, type):
        return None if issubclass(factory, nn.Module) else f"the class {factory.__name__}"
    function = factory if isinstance(factory, types.FunctionType) else vars(type(factory)).get("__call__")
    if not isinstance(function, types.FunctionType):
        return f"a value of the type {type(factory).__name__}"
    returned = _returned(function)
    if isinstance(returned, type):
        return None if issubclass(returned, nn.Module) else f"a function that returns {returned.__name__}"
    package = function.__module__.partition(".")[0]
    if package in sys.stdlib_module_names or package in _NO_FACTORIES:
        return f"a function of {package}"
    return None


def _returned(function: types.FunctionType) -> object:
    """Returns the type that a function says it returns, or None."""
    try:
        return typing.get_type_hints(inspect.unwrap(function)).get("return")
    except Exception:  # annotations of other packages may name things that do not exist
        return None


def _import_timm() -> Any:
    """Imports timm, or raises an error with the remedy."""
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ConfigurationError("'timm:NAME' needs the package timm; install it with: pip install timm") from error


def _check_timm_name(timm: Any, name: str) -> None:
    """Rejects names that timm does not know; a tag of pretrained weights may follow a dot."""
    if not timm.is_model(name):
        raise UnknownNameError("timm model", name, timm.list_models())
