"""Changes of whole batches in training that mix images and their labels, from torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from amc.errors import ConfigurationError, DataError

First = Literal["resized_crop", "rand_augment", "crop_flip", "shift", "none"]


@dataclass(frozen=True)
class Mixing:
    """Mixes every image of a batch, and its label, with another: training targets become shares of classes.

    The targets are `(B, classes)` then, which tasks other than classification do not take.

    Attributes:
        alpha: Of the Beta distribution that the share of the other image is drawn from; above 0.
        first: How each image is changed before.
        classes: Outputs of the network, where they are more than the data has classes.
    """

    alpha: float = 1.0
    first: First = "resized_crop"
    classes: int | None = None

    def __post_init__(self) -> None:
        """Checks the options."""
        if not self.alpha > 0:
            raise ConfigurationError(f"the alpha of an augmentation that mixes must be above 0, not {self.alpha:g}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns images as they are: they are mixed with their targets, by `mix`."""
        return images

    def mix(self, images: Tensor, targets: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mixes a batch.

        Args:
            images: `(B, C, H, W)`, floating point.
            targets: `(B,)`, int64: the class of each image.
            classes: The number of classes of the data.
            generator: Draws.

        Returns:
            The images, and the share of each class, `(B, classes)`.

        Raises:
            DataError: If the targets are no classes.
        """
        if targets.dim() != 1 or targets.is_floating_point():
            raise DataError(
                f"images can be mixed where each has one class, (N,), not targets of shape {tuple(targets.shape)}; "
                "choose another data.augment"
            )
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            mixed, shares = self._transform(max(classes, self.classes or 0))(images, targets)
        return mixed, shares

    def _transform(self, classes: int) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class MixUp(Mixing):
    """Weighted means of two images and of their labels (Zhang et al. 2017, arXiv:1710.09412), by torchvision.

    Attributes:
        alpha: See `Mixing`; the paper has 0.1 to 0.4 on ImageNet.
    """

    alpha: float = 0.2

    def _transform(self, classes: int) -> Any:
        from torchvision.transforms import v2

        return v2.MixUp(alpha=self.alpha, num_classes=classes)


@dataclass(frozen=True)
class CutMix(Mixing):
    """A rectangle of another image in each, labels by area (Yun et al. 2019, arXiv:1905.04899), by torchvision."""

    def _transform(self, classes: int) -> Any:
        from torchvision.transforms import v2

        return v2.CutMix(alpha=self.alpha, num_classes=classes)
