"""Small networks, each cut in half, as exports meet them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.storage.architecture import describe
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.structure.slicing import cut
from amc.tracing.trace import trace_structure


class ResidualNet(nn.Module):
    """Two convolutions with a shortcut, as in CIFAR ResNets."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 48, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(48)
        self.first = nn.Conv2d(48, 64, 3, padding=1)
        self.second = nn.Conv2d(64, 48, 3, padding=1)
        self.head = nn.Linear(48, 10)

    def forward(self, x):
        x = functional.relu(self.norm(self.stem(x)))
        x = functional.relu(x + self.second(functional.relu(self.first(x))))
        return self.head(x.mean((2, 3)))


class DepthwiseNet(nn.Module):
    """One inverted bottleneck, as in MobileNets, with two outputs."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Conv2d(3, 96, 1)
        self.depthwise = nn.Conv2d(96, 96, 3, groups=96, stride=2)
        self.norm = nn.BatchNorm2d(96)
        self.project = nn.Conv2d(96, 256, 1)
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        features = self.project(functional.relu6(self.norm(self.depthwise(self.expand(x)))))
        return {"scores": self.head(features.mean((2, 3))), "features": features}


class TextNet(nn.Module):
    """A transformer layer over token numbers, with a weight for every token."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(17, 64)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, tokens, weights):
        x = self.embedding(tokens) * weights[..., None]
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.down(functional.gelu(self.up(x)))
        return self.head(x.mean(1))


def halved(model, example):
    """Cuts every group that can be cut to half, and randomises what would make outputs trivial."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.data.normal_(std=0.3)
    structure = trace_structure(model.eval(), example)
    kept = {i: torch.arange(1, group.channels, 2) for i, group in enumerate(structure.groups) if group.reason is None}
    assert kept
    cut(model, structure, kept)
    return model, example, structure, kept


@pytest.fixture(scope="session")
def residual():
    return halved(ResidualNet(), torch.randn(1, 3, 8, 8))[:2]


@pytest.fixture(scope="session")
def depthwise():
    return halved(DepthwiseNet(), torch.randn(1, 3, 8, 8))[:2]


@pytest.fixture(scope="session")
def text():
    # In another order than the network's arguments: names decide, not places.
    example = {"weights": torch.rand(1, 6), "tokens": torch.randint(0, 17, (1, 6))}
    return halved(TextNet(), example)[:2]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run's folder with half a CIFAR ResNet-8."""
    folder, source = (
        tmp_path_factory.mktemp("run"),
        ModelSource("name", "amc.models.cifar_resnet:CifarResNet", {"blocks": 1}),
    )
    model, example, structure, kept = halved(source.build(trust=True), torch.randn(1, 3, 8, 8))
    save_network(folder, model, describe(source.build(trust=True), structure, kept, source, example_input=example))
    return folder
