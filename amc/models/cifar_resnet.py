"""Residual networks of the CIFAR form, and the same networks without their shortcuts.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: a 3x3 convolution, three stages of
n blocks with two 3x3 convolutions each (depth 6n + 2), global average pooling and a linear layer. Shortcuts have no
parameters (option A of the paper): where the shape changes, the input is strided and padded with zero channels.
Modules are named `conv1 bn1 layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2} linear`, as in the widely used public checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class PaddedShortcut(nn.Module):
    """Shortcut "option A": takes every `stride`-th pixel and pads the channels with zeros on both sides.

    Attributes:
        stride: Step in height and width.
        before: Zero channels put in front of the input's channels.
        after: Zero channels put behind them.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Centres `in_channels` channels in `out_channels`."""
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, C, H, W)` to `(N, before + C + after, ceil(H / stride), ceil(W / stride))`."""
        strided = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(strided, (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        """Shows the stride and the padding."""
        return f"stride={self.stride}, before={self.before}, after={self.after}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and the input added before the last ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Builds the block; the shortcut is the identity unless the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same_shape else PaddedShortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, H, W)` to `(N, channels, H / stride, W / stride)`."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu(out + self.shortcut(x))


class PlainBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, without a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Builds the block."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, in_channels, H, W)` to `(N, channels, H / stride, W / stride)`."""
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)))


class CifarResNet(nn.Module):
    """A CIFAR ResNet or Plain network for small images `(N, in_channels, H, W)`."""

    def __init__(
        self,
        blocks: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        residual: bool = True,
    ) -> None:
        """Builds a network of depth `6 * blocks + 2`, with He initialisation.

        Args:
            blocks: Blocks in each of the three stages.
            num_classes: Outputs.
            in_channels: Channels of the images.
            widths: Channels of the three stages.
            residual: Whether the blocks have shortcuts.
        """
        super().__init__()
        block = BasicBlock if residual else PlainBlock
        first, second, third = widths
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = _stage(block, blocks, first, first, stride=1)
        self.layer2 = _stage(block, blocks, first, second, stride=2)
        self.layer3 = _stage(block, blocks, second, third, stride=2)
        self.linear = nn.Linear(third, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `(N, in_channels, H, W)` to logits `(N, num_classes)`."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = out.mean((2, 3))
        logits: Tensor = self.linear(out)
        return logits


def _stage(
    block: type[BasicBlock] | type[PlainBlock], count: int, in_channels: int, channels: int, *, stride: int
) -> nn.Sequential:
    """Chains `count` blocks, of which the first changes the shape."""
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(channels, channels, 1) for _ in range(count - 1)))


def resnet(depth: int, *, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """Builds the CIFAR ResNet of a depth `6n + 2`."""
    return CifarResNet((depth - 2) // 6, num_classes=num_classes, in_channels=in_channels)


def plain(depth: int, *, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """Builds the CIFAR Plain network of a depth `6n + 2`."""
    return CifarResNet((depth - 2) // 6, num_classes=num_classes, in_channels=in_channels, residual=False)


def digits_resnet(*, num_classes: int = 10, in_channels: int = 1) -> CifarResNet:
    """Builds a residual network of depth 14 for 8x8 handwritten digits, trained within seconds on a CPU."""
    return CifarResNet(2, num_classes=num_classes, in_channels=in_channels)
