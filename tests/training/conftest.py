"""A network for trainings of a second."""

import pytest
import torch
from torch import nn


@pytest.fixture
def network():
    """Makes a small network with a batch norm for the digits, always with the same weights."""

    def make():
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(6)
        return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), norm, nn.ReLU(), nn.Flatten(), nn.Linear(54, 10))

    return make
