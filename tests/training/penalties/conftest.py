"""A small network with batch norms, a few digits, and a training to attach penalties to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.data import DataConfig, load_data
from amc.training.terms import Training


class Small(nn.Module):
    """Two convolutions with batch norms, a residual branch, and a head."""

    def __init__(self, *, norms=True):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6) if norms else nn.Identity()
        self.body, self.body_norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6) if norms else nn.Identity()
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        x = self.stem_norm(self.stem(x)).relu()
        x = x + self.body_norm(self.body(x))
        return self.head(x.relu().mean((2, 3)))


@pytest.fixture
def make():
    def network(seed=0, **options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Small(**options)

    return network


@pytest.fixture(scope="session")
def data():
    return load_data(DataConfig(train_images=100, test_images=50))


@pytest.fixture
def training():
    def of(model, *, steps=4, epochs=2, images=100, rate=0.1, decay=0.0):
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay)
        return Training(model, optimizer, steps, epochs, images, torch.rand(2, 1, 8, 8))

    return of
