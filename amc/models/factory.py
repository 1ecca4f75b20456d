"""Networks by name."""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from amc.errors import AmcError, ConfigurationError, ModelError, UnknownNameError
from amc.models import sources
from amc.models.cifar_convnets import mobilenet_cifar, vgg16_cifar
from amc.models.cifar_resnet import digits_resnet, plain, resnet
from amc.models.lenet import digits_lenet
from amc.models.mobilenet import MobileNetV1
from amc.models.sources import ModelFactory
from amc.runtime.plain import unwrapped
from amc.utils.registry import Registry

_DEPTHS = (20, 32, 44, 56, 110)
_OWN_INPUTS = {"digits_resnet": (1, 8, 8), "digits_lenet": (1, 8, 8), "mobilenet_v1": (3, 224, 224)}
"""Inputs of this package's networks that are not made for 3x32x32."""


def _own_models() -> Registry[ModelFactory]:
    """Lists the networks that this package defines."""
    models: Registry[ModelFactory] = Registry("model")
    models.register("digits_resnet", digits_resnet, "residual network of depth 14 for 1x8x8 digits")
    models.register("digits_lenet", digits_lenet, "LeNet-300-100 for 1x8x8 digits")
    for depth in _DEPTHS:
        models.register(f"resnet{depth}", partial(resnet, depth), f"CIFAR ResNet-{depth}, option-A shortcuts")
    for depth in _DEPTHS:
        models.register(f"plain{depth}", partial(plain, depth), f"CIFAR ResNet-{depth} without shortcuts")
    models.register("vgg16_cifar", vgg16_cifar, "VGG-16 with batch norm for 32x32 images")
    models.register("mobilenet_cifar", mobilenet_cifar, "MobileNet V1 for 32x32 images")
    models.register("mobilenet_v1", MobileNetV1, "MobileNet V1 for images of 224x224")
    return models


OWN_MODELS = _own_models()
_ORIGINS: WeakKeyDictionary[nn.Module, tuple[str, dict[str, Any]]] = WeakKeyDictionary()
"""The name and options of each network that was built by name, kept while the network exists."""


def create_model(name: str, *, num_classes: int | None = None, seed: int | None = None, **options: Any) -> nn.Module:
    """Builds a network with random weights.

    Nothing is downloaded unless an option asks for it: `weights="DEFAULT"` for torchvision, `pretrained=True` for timm.

    Args:
        name: One of `model_names()`, `"torchvision:NAME"`, `"timm:NAME"`, or `"package.module:factory"` for the user's
            own function or class; modules in the current folder are found too.
        num_classes: Outputs; the network's own default if not given.
        seed: Seed of the initial weights; PyTorch's global generator, as it stands, if not given.
        **options: Passed on to the network's constructor.

    Raises:
        UnknownNameError: If the name is not known; the message suggests the nearest ones.
        ConfigurationError: If timm is asked for and not installed, or a reference cannot be imported.
        ModelError: If the constructor fails or returns something other than an `nn.Module`.
    """
    if num_classes is not None:
        options["num_classes"] = num_classes
    model = build(name, find_factory(name), seed=seed, **options)
    _ORIGINS[model] = (name, options)
    return model


def origin_of(model: nn.Module) -> tuple[str, dict[str, Any]] | None:
    """Returns the name and options from which `create_model` built a network; None for any other network."""
    return _ORIGINS.get(model)


def build(name: str, factory: ModelFactory, *, seed: int | None = None, **options: Any) -> nn.Module:
    """Calls a constructor that has been looked up; see `create_model`.

    Raises:
        ModelError: If the constructor fails or returns something other than an `nn.Module`.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        try:
            model = factory(**options)
        except AmcError:
            raise
        except Exception as error:
            raise ModelError(
                f"model {name!r} cannot be built with options {options}: {type(error).__name__}: {error}"
            ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name!r} must return an nn.Module, not {type(model).__name__}")
    return unwrapped(model)


def is_own_code(name: str) -> bool:
    """Returns whether a model's name is `package.module:factory`, the user's own code."""
    prefix, separator, _ = name.partition(":")
    return bool(separator) and prefix not in ("torchvision", "timm")


def model_names() -> list[str]:
    """Returns the names of this package's networks and of torchvision's classification models.

    `"timm:NAME"` and `"package.module:factory"` work as well.
    """
    own = OWN_MODELS.names()
    return own + [name for name in sources.torchvision_names() if name not in OWN_MODELS]


def example_input_shape(name: str) -> tuple[int, int, int]:
    """Returns the shape `(C, H, W)` of one image that a network of that name is made for.

    Args:
        name: As for `create_model`.

    Raises:
        UnknownNameError: If the name is not known.
        ConfigurationError: If the name refers to the user's own code, whose inputs are not known.
    """
    if name in OWN_MODELS:
        return _OWN_INPUTS.get(name, (3, 32, 32))
    prefix, _, bare = name.rpartition(":")
    if prefix == "timm":
        return sources.timm_input_shape(bare)
    if is_own_code(name):
        raise ConfigurationError(f"the input of {name!r} is not known; give an example input of your own")
    find_factory(name)
    return (3, 299, 299) if bare == "inception_v3" else (3, 224, 224)


def find_factory(name: str) -> ModelFactory:
    """Returns the constructor that a name stands for; nothing is called.

    Raises:
        UnknownNameError: If the name is not known.
        ConfigurationError: If timm is asked for and not installed, or a reference cannot be imported.
    """
    if name in OWN_MODELS:
        return OWN_MODELS.get(name)
    prefix, separator, bare = name.partition(":")
    if separator and prefix == "timm":
        return sources.timm_factory(bare)
    if is_own_code(name):
        return sources.imported_factory(name, own=True)
    names = sources.torchvision_names()
    if separator and bare not in names:
        raise UnknownNameError("torchvision model", bare, names)
    if not separator and name not in names:
        raise UnknownNameError("model", name, model_names())
    return sources.torchvision_factory(bare if separator else name)
