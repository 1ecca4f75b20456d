"""Subtracting the mean and dividing by the standard deviation of each channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amc.errors import DataError


def check_statistics(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    """Checks that mean and std fit the channels.

    Raises:
        DataError: If they do not.
    """
    for name, values in (("mean", mean), ("std", std)):
        if values and len(values) not in (1, channels):
            raise DataError(f"{name} must have one number for each of the {channels} channels, not {len(values)}")


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = False) -> Tensor:
    """Scales images to [0, 1] if they are uint8, then subtracts the mean and divides by the standard deviation.

    Args:
        images: `(N, C, H, W)`.
        mean: One number a channel; with `std` empty too, the images are only scaled.
        std: One number a channel.
        channels_last: Whether the result is laid out channels-last.

    Returns:
        `(N, C, H, W)`, float32.
    """
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    images = images.float()
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    if not mean and not std:
        return images / unit if unit != 1.0 else images
    middle = images.new_tensor(mean or (0.0,)).view(-1, 1, 1)
    spread = images.new_tensor(std or (1.0,)).view(-1, 1, 1)
    return (images - middle * unit) / (spread * unit)
