"""Numbers in code that are not followed, as docs/structure.md lists them: their groups stay whole, with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

IMAGE = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(1))
ALL = 400


def flattened(x):
    return x.reshape(-1, 400)


class Net(nn.Module):
    """A convolution whose map is laid out by a number, and a layer that reads it."""

    width = 400

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 1), nn.Linear(400, 4)


class ConstantOfTheModule(Net):
    def forward(self, x):
        return self.head(self.conv(x).view(-1, ALL))


class DefaultArgument(Net):
    def forward(self, x, n=400):
        return self.head(self.conv(x).view(-1, n))


class AttributeOfTheClass(Net):
    def forward(self, x):
        return self.head(self.conv(x).view(-1, self.width))


class Property(Net):
    @property
    def size(self):
        return 400

    def forward(self, x):
        return self.head(self.conv(x).view(-1, self.size))


class ByName(Net):
    def flat(self, x):
        return x.view(-1, 400)

    def forward(self, x):
        return self.head(getattr(self, "flat")(self.conv(x)))  # noqa: B009


class StaticMethod(Net):
    @staticmethod
    def flat(x):
        return x.view(-1, 400)

    def forward(self, x):
        return self.head(self.flat(self.conv(x)))


class ClassMethod(Net):
    @classmethod
    def flat(cls, x):
        return x.view(-1, 400)

    def forward(self, x):
        return self.head(self.flat(self.conv(x)))


class FunctionOutside(Net):
    def forward(self, x):
        return self.head(flattened(self.conv(x)))


class TwoGroups(Net):
    def __init__(self):
        super().__init__()
        self.other, self.second = nn.Conv2d(3, 16, 1), nn.Linear(400, 4)

    def forward(self, x):
        maps = [layer(x).relu().view(-1, 400) for layer in (self.conv, self.other)]
        return self.head(maps[0]) * self.second(maps[1])


UNREACHED = [
    ConstantOfTheModule,
    DefaultArgument,
    AttributeOfTheClass,
    Property,
    ByName,
    StaticMethod,
    ClassMethod,
    FunctionOutside,
    TwoGroups,
]


@pytest.mark.parametrize("kind", UNREACHED)
def test_the_group_stays_whole_with_the_reason(tools, kind):
    structure, _ = tools.traced(kind(), IMAGE)
    assert tools.reasons_of(structure)["conv"].startswith("the network's code counts on its width")


class SetByInit(AttributeOfTheClass):
    def __init__(self):
        super().__init__()
        self.width = 400


class AsksForTheSize(Net):
    def forward(self, x):
        return self.head(self.conv(x).view(len(x), -1))


@pytest.mark.parametrize("kind", [SetByInit, AsksForTheSize])
def test_with_the_remedy_it_is_cut(tools, kind):
    structure, small = tools.traced(kind(), IMAGE)
    assert tools.groups_of(structure)["conv"].prunable
    assert small.head.in_features == 25 * small.conv.out_channels < 400
