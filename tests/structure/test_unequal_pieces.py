"""Channels that are split into pieces of unequal lengths, which modules remember."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.tracing.rules_position import UNEQUAL

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Partial(nn.Module):
    """A residual block that convolves some of its channels, as in FasterNet."""

    def __init__(self, take, part):
        super().__init__()
        self.take, self.part, self.rest, self.sizes = take, part, 16 - part, [part, 16 - part]
        self.some = nn.Conv2d(part, part, 3, padding=1)
        self.mlp = nn.Sequential(nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 16, 1))

    def forward(self, x):
        first, second = self.take(self, x)
        return x + self.mlp(torch.cat([self.some(first), second], 1))


def by_numbers(self, x):
    return x.split((self.part, self.rest), 1)


def by_list(self, x):
    return x.split(self.sizes, 1)


def by_slices(self, x):
    return x[:, : self.part], x[:, self.part :]


def from_the_end(self, x):
    return x[:, -self.part :], x[:, : -self.part]


def by_code(self, x):
    return x[:, :6], x[:, 6:]


@pytest.mark.parametrize("part", [4, 6])
@pytest.mark.parametrize("take", [by_numbers, by_list, by_slices, from_the_end])
def test_pieces_whose_lengths_are_remembered_are_cut(tools, take, part):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), Partial(take, part), Partial(take, part), nn.ReLU(), nn.Conv2d(16, 4, 1))
    structure, small = tools.traced(model, IMAGE)
    assert [group.reason for group in structure.groups if not group.prunable] == ["the network's output"]
    remembered = small[1].sizes[0] if take is by_list else small[1].part
    assert small[1].some.in_channels == remembered < part


def test_one_length_for_several_layers_is_one_group(tools):
    class Cascade(nn.Module):
        """Attention whose heads have layers of their own and share the lengths of their pieces, as in EfficientViT."""

        def __init__(self):
            super().__init__()
            self.key_width, self.value_width = 4, 6
            self.heads = nn.ModuleList(nn.Conv2d(3, 14, 1) for _ in range(2))
            self.last = nn.Conv2d(12, 5, 1)

        def forward(self, x):
            found = []
            for head in self.heads:
                sizes = [self.key_width, self.key_width, self.value_width]
                q, k, v = (part.flatten(2) for part in head(x).split(sizes, 1))
                found.append((v @ (q.transpose(1, 2) @ k).softmax(-1)).view(len(x), self.value_width, 8, 8))
            return self.last(torch.cat(found, 1))

    structure, small = tools.traced(Cascade(), IMAGE)
    assert [group.channels for group in structure.groups if group.prunable] == [4, 6]
    assert all(head.out_channels == 2 * small.key_width + small.value_width for head in small.heads)


def test_lengths_in_the_code_stay(tools):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), Partial(by_code, 6), nn.ReLU(), nn.Conv2d(16, 4, 1))
    del model[1].part, model[1].rest, model[1].sizes
    structure, _ = tools.traced(model, IMAGE)
    assert tools.reasons_of(structure)["0"].endswith("let it ask for the size (x.shape[1])")


def test_pieces_with_nothing_in_common_stay_with_the_remedy(tools):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), Partial(lambda _, x: (x[:, :5], x[:, 5:]), 5), nn.Conv2d(16, 4, 1))
    del model[1].part, model[1].rest, model[1].sizes
    structure, _ = tools.traced(model, IMAGE)
    assert tools.reasons_of(structure)["0"] == UNEQUAL


def test_a_list_of_lengths_that_overlap_other_groups_is_followed(tools):
    """Gated blocks as in MambaOut: the gate has the length of both other pieces together."""

    class Gated(nn.Module):
        def __init__(self, width=8, hidden=20):
            super().__init__()
            self.norm, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
            self.split_indices = (hidden, hidden - width, width)
            self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

        def forward(self, x):
            gate, plain, mixed = self.fc1(self.norm(x)).split(self.split_indices, -1)
            mixed = self.conv(mixed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            return x + self.fc2(functional.gelu(gate) * torch.cat((plain, mixed), -1))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.blocks, self.head = nn.Conv2d(3, 8, 1), nn.Sequential(Gated(), Gated()), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.blocks(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2)))

    structure, small = tools.traced(Net(), IMAGE)
    assert [group.prunable for group in structure.groups] == [True] * 5 + [False]
    gate, plain, mixed = small.blocks[0].split_indices
    assert gate == plain + mixed < 20
