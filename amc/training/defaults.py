"""Settings that depend on the amount of data, if the user does not set them.

With few images, steps of the usual size undo what the network has learnt: fine-tuned on 80 images of CIFAR-10, a
ResNet-20 pruned to 30% of its FLOPs fell from 66.5 to 23.7 at a rate of 0.05 and batches of 128, but only to 63.8 at
0.002 and 16.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from amc.data.image_set import steps_per_epoch
from amc.data.splits import DataRoles
from amc.training.config import FineTuneConfig, TrainConfig

ConfigT = TypeVar("ConfigT", bound=FineTuneConfig)

_STEPS = 8
"""Steps that an epoch should have at least."""
_SMALLEST, _LARGEST = 16, 128
_EPOCHS, _MOST_EPOCHS, _WANTED_STEPS, _FEW = 10, 25, 120, 1000
"""Epochs of fine-tuning; below this number of images there are more, to reach the steps."""
_TRAINING_EPOCHS, _MOST_TRAINING_EPOCHS, _WANTED_TRAINING_STEPS = 20, 100, 600
"""The same for training from scratch. Under a new head the epochs do not depend on the images."""
_ENOUGH = 5000
"""Images from which fine-tuning takes the full learning rate; below, it is scaled by the root of their number."""
_FROM_SCRATCH, _FURTHER = 0.1, 0.05
"""Learning rates at batches of 128, with batch norms."""
_ADAPTIVE = 1e-3
"""Learning rate of optimisers other than SGD: most of them scale their steps themselves."""
_WITHOUT_NORMS = 0.2
"""Share of the learning rate for networks without batch norms, which are less stable."""


def fitted(config: ConfigT, model: nn.Module, data: DataRoles) -> ConfigT:
    """Returns the settings with batch size, learning rate and epochs filled in.

    Args:
        config: As the user gave them.
        model: The network to train.
        data: Its data; the batch size of the user's own loader counts.
    """
    images = len(data.train)
    size = _batch_size(config, data)
    rate = config.learning_rate or _rate(config, model, images, size)
    return replace(config, batch_size=size, learning_rate=rate, epochs=_epochs(config, images, size))


def with_epochs(config: ConfigT, data: DataRoles | None) -> ConfigT:
    """Returns the settings with the epochs filled in; without data they are the default."""
    if data is None:
        usual = _TRAINING_EPOCHS if isinstance(config, TrainConfig) else _EPOCHS
        return config if config.epochs is not None else replace(config, epochs=usual)
    images = len(data.train)
    return replace(config, epochs=_epochs(config, images, _batch_size(config, data)))


def default_batch_size(images: int) -> int:
    """Returns a power of two from 16 to 128, with at least eight steps per epoch if there are enough images."""
    wanted = max(1, images // _STEPS)
    return min(_LARGEST, max(_SMALLEST, 1 << (wanted.bit_length() - 1)))


def _batch_size(config: FineTuneConfig, data: DataRoles) -> int:
    return config.batch_size or getattr(data.train, "batch_size", None) or default_batch_size(len(data.train))


def _epochs(config: FineTuneConfig, images: int, size: int) -> int:
    """Returns the epochs: as given, or by the number of images."""
    if config.epochs is not None:
        return config.epochs
    usual, most, steps = _EPOCHS, _MOST_EPOCHS, _WANTED_STEPS
    if isinstance(config, TrainConfig):
        usual, most, steps = _TRAINING_EPOCHS, _MOST_TRAINING_EPOCHS, _WANTED_TRAINING_STEPS
    if images >= _FEW or (isinstance(config, TrainConfig) and config.head):
        return usual
    return min(most, max(usual, math.ceil(steps / steps_per_epoch(images, size))))


def _rate(config: FineTuneConfig, model: nn.Module, images: int, size: int) -> float:
    """Returns the peak of the learning rate: in proportion to the batch, up to 128."""
    if config.optimizer != "sgd":
        return _ADAPTIVE
    share = min(1.0, size / _LARGEST)
    if isinstance(config, TrainConfig) and not config.head:
        return _FROM_SCRATCH * share
    norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    return _FURTHER * share * min(1.0, math.sqrt(images / _ENOUGH)) * (1.0 if norms else _WITHOUT_NORMS)
