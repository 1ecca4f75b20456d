"""Chains of convolutions for 32x32 images: VGG-16 and MobileNet V1."""

from __future__ import annotations

from torch import Tensor, nn

from amc.models.mobilenet import BLOCKS, STEM, convolution

# Simonyan & Zisserman 2015, configuration D; "M" is a 2x2 max pooling.
_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class FeatureNet(nn.Module):
    """Convolutional features, global average pooling and a linear classifier."""

    def __init__(self, features: nn.Sequential, channels: int, num_classes: int) -> None:
        """Puts the parts together, with He initialisation of the convolutions.

        Args:
            features: Maps images to `(N, channels, H', W')`.
            channels: Channels that the features end with.
            num_classes: Outputs.
        """
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `(N, C, H, W)` to logits `(N, num_classes)`."""
        logits: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def vgg16_cifar(*, num_classes: int = 10, in_channels: int = 3) -> FeatureNet:
    """Builds VGG-16 with batch norm and one linear layer, the usual form for CIFAR."""
    layers: list[nn.Module] = []
    channels = in_channels
    for item in _VGG16:
        if isinstance(item, int):
            layers += convolution(channels, item, kernel=3)
            channels = item
        else:
            layers.append(nn.MaxPool2d(2))
    return FeatureNet(nn.Sequential(*layers), channels, num_classes)


def mobilenet_cifar(*, num_classes: int = 10, in_channels: int = 3) -> FeatureNet:
    """Builds MobileNet V1 with a first stride of 1, so that 32x32 images end at 2x2."""
    layers = convolution(in_channels, STEM, kernel=3)
    channels = STEM
    for width, stride in BLOCKS:
        layers += convolution(channels, channels, kernel=3, stride=stride, groups=channels)
        layers += convolution(channels, width, kernel=1)
        channels = width
    return FeatureNet(nn.Sequential(*layers), channels, num_classes)
