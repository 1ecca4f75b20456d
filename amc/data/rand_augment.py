"""RandAugment: random changes of colour and shape after a random crop, from torchvision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amc.data.resized_crop import ResizedCrop
from amc.errors import ConfigurationError

_BINS = 31


@dataclass(frozen=True)
class RandAugment(ResizedCrop):
    """A random crop, then random changes of one strength (Cubuk et al. 2019, arXiv:1909.13719), by torchvision.

    Attributes:
        count: How many changes, one after another.
        magnitude: Their strength, 0 to 30.
    """

    count: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        """Checks the options."""
        super().__post_init__()
        if self.count < 0 or not 0 <= self.magnitude < _BINS:
            raise ConfigurationError(
                f"rand_augment: count must be at least 0 and magnitude 0 to {_BINS - 1}, not {self.count} and "
                f"{self.magnitude}"
            )

    def finish(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Changes one image `(C, H, W)`, uint8, once it is cut and resized."""
        from torchvision.transforms import v2

        change = v2.RandAugment(num_ops=self.count, magnitude=self.magnitude, num_magnitude_bins=_BINS)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            changed: Tensor = change(image)
        return changed
