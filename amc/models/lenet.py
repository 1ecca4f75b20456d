"""LeNet-300-100: two hidden layers, the small network of the literature on sparse training."""

from __future__ import annotations

from torch import Tensor, nn

_SIDE = 8  # pixels of a digit
_WIDTHS = (300, 100)


class LeNet300(nn.Module):
    """Three linear layers (LeCun et al. 1998), with optional dropout, on all pixels of an image."""

    def __init__(self, inputs: int, num_classes: int, dropout: float) -> None:
        """Puts the layers together, with Glorot initialisation, as in Frankle and Carbin 2019.

        Args:
            inputs: Pixels times channels.
            num_classes: Outputs.
            dropout: Share of the hidden units that a training step leaves out.
        """
        super().__init__()
        first, second = _WIDTHS
        self.flatten, self.relu = nn.Flatten(), nn.ReLU()
        self.fc1, self.drop1 = nn.Linear(inputs, first), nn.Dropout(dropout)
        self.fc2, self.drop2 = nn.Linear(first, second), nn.Dropout(dropout)
        self.fc3 = nn.Linear(second, num_classes)
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `(N, C, H, W)` to logits `(N, num_classes)`."""
        hidden = self.drop1(self.relu(self.fc1(self.flatten(x))))
        logits: Tensor = self.fc3(self.drop2(self.relu(self.fc2(hidden))))
        return logits


def digits_lenet(*, num_classes: int = 10, in_channels: int = 1, dropout: float = 0.0) -> LeNet300:
    """Builds LeNet-300-100 for handwritten digits of 8x8 pixels."""
    return LeNet300(in_channels * _SIDE * _SIDE, num_classes, dropout)
