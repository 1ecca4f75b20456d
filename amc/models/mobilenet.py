"""MobileNet V1 for images of ImageNet's size; smaller ones will do."""

from __future__ import annotations

from torch import Tensor, nn

# Howard et al. 2017, arXiv:1704.04861, table 1: (channels, stride) of each depthwise-separable block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
STEM = 32
"""Channels of the first convolution."""


class MobileNetV1(nn.Module):
    """MobileNet V1 of width 1.0 (Howard et al. 2017, arXiv:1704.04861).

    A convolution of stride 2, thirteen depthwise-separable blocks, the mean over all pixels and a linear layer. With
    1,000 classes it has 4,231,976 parameters; at 224x224 pixels its convolutions and linear layer take 568.7 million
    FLOPs. Images shrink 32 times, so that any of 32x32 pixels or more will do.
    """

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        """Builds the network, with He initialisation of the convolutions.

        Args:
            num_classes: Outputs.
            in_channels: Channels of the images.
        """
        super().__init__()
        self.conv1 = nn.Sequential(*convolution(in_channels, STEM, kernel=3, stride=2))
        blocks, channels = [], STEM
        for width, stride in BLOCKS:
            depthwise = convolution(channels, channels, kernel=3, stride=stride, groups=channels)
            blocks.append(nn.Sequential(*depthwise, *convolution(channels, width, kernel=1)))
            channels = width
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `(N, in_channels, H, W)` to logits `(N, num_classes)`."""
        logits: Tensor = self.classifier(self.features(self.conv1(x)).mean((2, 3)))
        return logits


def convolution(
    in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Returns a convolution, its batch norm and a ReLU."""
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
