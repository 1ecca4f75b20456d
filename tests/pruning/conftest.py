"""Small networks with structures written by hand, so that these tests do not depend on tracing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from amc.structure import Allocation, ChannelGroup, Extent, LayerSpec, ModelStructure, TensorCut
from amc.structure.model_structure import ModuleAttribute
from amc.structure.residual_sums import OperatorCall, ResidualSum


@dataclass(frozen=True)
class Case:
    """A network, its structure and images for it."""

    model: nn.Module
    structure: ModelStructure
    images: Tensor

    def allocation(self, *widths: int) -> Allocation:
        return Allocation(
            "filter", {group.name: width for group, width in zip(self.structure.groups, widths, strict=True)}
        )


class Block(nn.Module):
    """A residual block whose inner channels may go."""

    def __init__(self, channels: int, inner: int, groups: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, channels, 3, padding=1, groups=groups, bias=bias)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + x)


class Net(nn.Module):
    """Stem, two residual blocks, a head on flattened 2x2 maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.block1 = Block(6, 8)
        self.block2 = Block(6, 10, bias=True)
        self.expand = nn.Conv2d(6, 5, 1, stride=2)
        self.head = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(torch.relu(self.stem(x))))
        x = nn.functional.adaptive_avg_pool2d(torch.relu(self.expand(x)), 2)
        return self.head(x.flatten(1))


class GroupedNet(nn.Module):
    """A grouped convolution reads: position p of its axis 1 belongs to one channel of each half."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 6, 3, groups=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(torch.relu(self.bn1(self.conv1(x)))).mean((2, 3))


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Gives batch norms statistics as training would."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator)
            positive = name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight"))
            fan_in = max(tensor[0].numel(), 1) if tensor.dim() > 1 else 10
            tensor.data = drawn.abs() + 0.3 if positive else drawn / fan_in**0.5
    return model.eval()


def single(channels: int, step: int = 1) -> tuple[tuple[int, ...], ...]:
    """Positions c * step, ... of every channel c."""
    return tuple(tuple(range(c * step, (c + 1) * step)) for c in range(channels))


def norm_cuts(name: str, positions: tuple[tuple[int, ...], ...]) -> tuple[TensorCut, ...]:
    return tuple(
        TensorCut(f"{name}.{part}", 0, positions, "follow")
        for part in ("weight", "bias", "running_mean", "running_var")
    )


def layer(model: nn.Module, name: str, batch_norm: str | None = None) -> LayerSpec:
    module = model.get_submodule(name)
    shape = tuple(module.weight.shape)
    kind = "linear" if isinstance(module, nn.Linear) else "conv"
    return LayerSpec(
        name, kind, f"{name}.weight", shape, shape[1], shape[0], (1, 1), (1, 1), (1, 1), 1, 0, 0, None, (), batch_norm
    )


def attribute(module: str, name: str, group: int, count: int = 1) -> ModuleAttribute:
    return ModuleAttribute(module, name, Extent(0, ((group, count),)))


def net_case() -> Case:
    model = randomise(Net(), 0)
    groups, attributes = [], []
    for index, (block, inner) in enumerate((("block1", 8), ("block2", 10))):
        cuts = [
            TensorCut(f"{block}.conv1.weight", 0, single(inner), "write"),
            *norm_cuts(f"{block}.bn1", single(inner)),
        ]
        if block == "block2":
            cuts.append(TensorCut(f"{block}.conv1.bias", 0, single(inner), "write"))
        cuts.append(TensorCut(f"{block}.conv2.weight", 1, single(inner), "read"))
        groups.append(ChannelGroup(f"{block}.conv1", inner, tuple(cuts), (f"{block}.conv1",), (f"{block}.conv2",)))
        attributes += [
            attribute(f"{block}.conv1", "out_channels", index),
            attribute(f"{block}.bn1", "num_features", index),
            attribute(f"{block}.conv2", "in_channels", index),
        ]
    cuts = [
        TensorCut("expand.weight", 0, single(5), "write"),
        TensorCut("expand.bias", 0, single(5), "write"),
        TensorCut("head.weight", 1, single(5, 4), "read"),
    ]
    groups.append(ChannelGroup("expand", 5, tuple(cuts), ("expand",), ("head",)))
    attributes += [attribute("expand", "out_channels", 2), attribute("head", "in_features", 2, 4)]
    layers = [layer(model, "stem")]
    for block in ("block1", "block2"):
        layers += [layer(model, f"{block}.conv{i}", f"{block}.bn{i}") for i in (1, 2)]
    layers += [layer(model, "expand"), layer(model, "head")]
    structure = ModelStructure(tuple(layers), tuple(groups), (), (), tuple(attributes), residual_sums())
    return Case(model, structure, torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)))


def residual_sums() -> tuple[ResidualSum, ...]:
    """Each block adds what the activation before it returned: two run in each block, the second behind its sum."""
    return tuple(
        ResidualSum(
            f"block{index + 1}.conv2",
            OperatorCall("aten.add.Tensor", index),
            OperatorCall("aten.relu.default", 2 * index),
            f"block{index + 1}.bn2",
        )
        for index in range(2)
    )


def grouped_case() -> Case:
    model = randomise(GroupedNet(), 3)
    pairs = tuple((c, c + 4) for c in range(4))
    cuts = (
        TensorCut("conv1.weight", 0, pairs, "write"),
        *norm_cuts("bn1", pairs),
        TensorCut("conv2.weight", 1, single(4), "read"),
    )
    group = ChannelGroup("conv1", 4, cuts, ("conv1",), ("conv2",))
    attributes = (
        attribute("conv1", "out_channels", 0, 2),
        attribute("bn1", "num_features", 0, 2),
        attribute("conv2", "in_channels", 0, 2),
    )
    layers = (layer(model, "conv1", "bn1"), layer(model, "conv2"))
    structure = ModelStructure(layers, (group,), (), (), attributes)
    return Case(model, structure, torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(2)))


@pytest.fixture
def net() -> Case:
    return net_case()


@pytest.fixture
def grouped() -> Case:
    return grouped_case()


@pytest.fixture(params=[net_case, grouped_case], ids=["residual", "grouped"])
def case(request: pytest.FixtureRequest) -> Case:
    build: Callable[[], Case] = request.param
    return build()
