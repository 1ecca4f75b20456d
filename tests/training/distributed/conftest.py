"""Two processes that share trainings, by gloo on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.data import DataConfig, load_data

pytest.importorskip("lightning_fabric")


class Small(nn.Module):
    """Two convolutions with batch norms, a residual branch, and a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.body, self.body_norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.0)
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        x = self.stem_norm(self.stem(x)).relu()
        x = x + self.body_norm(self.body(x))
        return self.head(self.dropout(x.relu().mean((2, 3))))


@pytest.fixture
def make():
    def network(seed=0, dropout=0.0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Small()
        model.dropout.p = dropout
        return model

    return network


@pytest.fixture(scope="session")
def data():
    return load_data(DataConfig(train_images=96, search_images=32, calibration_images=20, test_images=40))


@pytest.fixture(scope="session")
def two_processes():
    """Returns what makes two processes: forked, as a new Python takes seconds to import PyTorch."""
    from amc.training.distributed.checks import check_installed
    from amc.training.distributed.processes import LocalProcesses

    check_installed()
    return lambda: LocalProcesses(2, "cpu", start_method="fork")


@pytest.fixture(scope="module")
def pair(two_processes):
    processes = two_processes()
    yield processes
    processes.close()
