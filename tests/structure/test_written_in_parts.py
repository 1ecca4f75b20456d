"""Channels that are written beside each other into one tensor, and shifts of a share of the channels in time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.storage.architecture import describe, rebuild
from amc.storage.source import ModelSource
from amc.tracing.canvas import WRITTEN
from amc.tracing.rules_position import UNEQUAL

GENERATOR = torch.Generator().manual_seed(1)
IMAGE = torch.randn(1, 3, 5, 5, generator=GENERATOR)
OTHERS = (torch.randn(2, 3, 5, 5, generator=GENERATOR), -IMAGE)


class Beside(nn.Module):
    """Two layers whose channels are written into one tensor, and a layer that reads it."""

    def __init__(self, width=24):
        super().__init__()
        self.wide, self.narrow, self.head = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(width, 4, 1)


class ByShape(Beside):
    def forward(self, x):
        first, second = self.wide(x), self.narrow(x)
        out = first.new_zeros(len(x), first.shape[1] + second.shape[1], *x.shape[2:])
        out[:, : first.shape[1]] = first
        out[:, first.shape[1] :] = second
        return self.head(out)


class ByNumber(Beside):
    def forward(self, x):
        out = torch.zeros(len(x), 24, 5, 5)
        out[:, :16] = self.wide(x)
        out[:, 16:] = self.narrow(x)
        return self.head(out)


class ByAttribute(Beside):
    def __init__(self):
        super().__init__()
        self.first, self.all = 16, 24

    def forward(self, x):
        out = torch.zeros(len(x), self.all, 5, 5)
        out[:, : self.first] = self.wide(x)
        out[:, self.first :] += self.narrow(x)
        return self.head(out)


class ReadBetween(Beside):
    """Reads the tensor when only a part of it is written."""

    def forward(self, x):
        first, second = self.wide(x), self.narrow(x)
        out = first.new_zeros(len(x), first.shape[1] + second.shape[1], *x.shape[2:])
        out[:, : first.shape[1]] = first
        early = self.head(out)
        out[:, first.shape[1] :] = second
        return early - self.head(out)


@pytest.mark.parametrize("kind", [ByShape, ByNumber, ByAttribute, ReadBetween])
def test_channels_that_are_written_beside_others_are_groups_of_their_own(tools, kind):
    model = kind()
    structure, small = tools.traced(model, IMAGE)
    assert [(group.name, group.channels) for group in structure.groups if group.prunable] == [
        ("wide", 16),
        ("narrow", 8),
    ]
    assert small.head.in_channels == small.wide.out_channels + small.narrow.out_channels < 24
    tools.check_values(model, structure, IMAGE, *OTHERS[:1])


class AsLongAsAnother(Beside):
    """Takes a part of other channels that is as long as the tensor that two layers are written into."""

    def __init__(self):
        super().__init__()
        self.all, self.mix = 24, nn.Conv2d(24, 32, 1)
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, x):
        first = self.wide(x)
        out = torch.zeros(len(x), self.all, 5, 5)
        out[:, : first.shape[1]] = first
        out[:, first.shape[1] :] = self.narrow(x)
        y = self.mix(out.relu())
        share = y.shape[1] // 4
        return self.head(torch.cat([y[:, :share].relu(), y[:, share:].tanh()], 1))


def test_parts_that_happen_to_be_as_long_as_another_tensor_are_not_coupled_with_it(tools):
    model = AsLongAsAnother()
    structure, small = tools.traced(model, IMAGE)
    assert [group.channels for group in structure.groups if group.prunable] == [16, 8, 8]
    assert small.all == small.mix.in_channels < 24
    tools.check_values(model, structure, IMAGE, *OTHERS)


@pytest.mark.parametrize("kind", [ByNumber, ByAttribute])
def test_networks_that_write_into_parts_are_rebuilt_from_a_file(tools, kind):
    model = kind()
    structure, _ = tools.traced(model, IMAGE)
    small, kept = tools.cut_half(model, structure)
    rebuilt = rebuild(describe(model, structure, kept, ModelSource.of(model)), kind())
    rebuilt.load_state_dict(small.state_dict())
    assert torch.equal(rebuilt.eval()(OTHERS[0]), small.eval()(OTHERS[0]))


class Padded(Beside):
    """Channels between others that stay zero."""

    def __init__(self):
        super().__init__(20)

    def forward(self, x):
        out = torch.zeros(len(x), 20, 5, 5)
        out[:, 2:18] = self.wide(x)
        return self.head(out)


def test_channels_that_nothing_is_written_to_stay(tools):
    model = Padded()
    structure, small = tools.traced(model, IMAGE)
    assert small.head.in_channels == small.wide.out_channels + 4 < 20
    tools.check_values(model, structure, IMAGE, *OTHERS)


class Shortcut(Beside):
    """A shortcut that widens its channels with zeros."""

    def __init__(self):
        super().__init__(16)

    def forward(self, x):
        first, second = self.narrow(x), self.wide(x)
        out = first.new_zeros(len(x), second.shape[1], *x.shape[2:])
        out[:, : first.shape[1]] = first
        return self.head(out + second)


def test_a_shortcut_that_is_padded_with_zeros_is_cut(tools):
    model = Shortcut()
    structure, small = tools.traced(model, IMAGE)
    assert [group.channels for group in structure.groups if group.prunable] == [8, 8]
    assert small.head.in_channels == small.wide.out_channels > small.narrow.out_channels
    tools.check_values(model, structure, IMAGE, *OTHERS)


class AddedToPart(Beside):
    def __init__(self):
        super().__init__(16)

    def forward(self, x):
        out = self.wide(x)
        out[:, :8] += self.narrow(x)
        return self.head(out)


class ViewOfPart(Beside):
    def __init__(self):
        super().__init__(16)

    def forward(self, x):
        out = torch.zeros_like(self.wide(x))
        part = out[:, :8]
        part.copy_(self.narrow(x))
        return self.head(out)


@pytest.mark.parametrize("kind", [AddedToPart, ViewOfPart])
def test_what_is_written_into_half_of_the_channels_goes_with_both_halves(tools, kind):
    model = kind()
    structure, small = tools.traced(model, IMAGE)
    assert small.head.in_channels == 2 * small.narrow.out_channels < 16
    tools.check_values(model, structure, IMAGE, *OTHERS)


class Interleaved(Beside):
    def __init__(self, step=2):
        super().__init__(16)
        self.other, self.step = nn.Conv2d(3, 8, 1), step

    def forward(self, x):
        out = torch.zeros(len(x), 16, 5, 5)
        out[:, :: self.step] = self.narrow(x)
        out[:, 1 :: self.step] = self.other(x)
        return self.head(out)


def test_channels_that_are_written_in_turns_go_in_pairs(tools):
    model = Interleaved()
    structure, small = tools.traced(model, IMAGE)
    assert [group.channels for group in structure.groups if group.prunable] == [8]
    assert small.head.in_channels == 2 * small.narrow.out_channels == 2 * small.other.out_channels < 16
    tools.check_values(model, structure, IMAGE, *OTHERS)


def test_a_part_of_a_tensor_whose_size_is_out_of_reach_stays_whole_with_the_remedy(tools):
    width = 24

    class Hidden(Beside):
        def forward(self, x):
            out = torch.zeros(len(x), width, 5, 5)
            out[:, :16] = self.wide(x)
            return self.head(out)

    structure, _ = tools.traced(Hidden(), IMAGE)
    assert tools.reasons_of(structure)["wide"].endswith("let it ask for the size (x.shape[1])")


def test_channels_that_are_written_across_a_reshaped_tensor_stay_whole_with_the_remedy(tools):
    class Across(Beside):
        def forward(self, x):
            out = torch.zeros(len(x), 24, 5, 5)
            out.view(len(x), 40, 15)[:, :16] = self.wide(x)[..., :3].flatten(2)
            return self.head(out)

    structure, _ = tools.traced(Across(), IMAGE)
    assert tools.reasons_of(structure)["wide"] == WRITTEN


class Shifted(nn.Module):
    """Frames of which a share of the channels comes from the next frame, and another from the last (TSM)."""

    def __init__(self, share=8, width=16):
        super().__init__()
        self.share, self.frames = share, 4
        self.first, self.second, self.head = nn.Conv2d(3, width, 1), nn.Conv2d(width, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.first(x)
        return self.head(self.second(self.shift(x.view(-1, self.frames, *x.shape[1:])).view_as(x)).relu())


class ByZeros(Shifted):
    def shift(self, x):
        fold, out = x.shape[2] // self.share, torch.zeros_like(x)
        out[:, :-1, :fold] = x[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return out


class ByCopy(Shifted):
    def shift(self, x):
        fold, out = x.shape[2] // self.share, x.clone()
        out[:, :-1, :fold] = x[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        return out


class ByParts(Shifted):
    def shift(self, x):
        fold = x.shape[2] // self.share
        ahead, behind, rest = x[:, :, :fold], x[:, :, fold : 2 * fold], x[:, :, 2 * fold :]
        ahead = torch.cat([ahead[:, 1:], torch.zeros_like(ahead[:, :1])], 1)
        behind = torch.cat([torch.zeros_like(behind[:, :1]), behind[:, :-1]], 1)
        return torch.cat([ahead, behind, rest], 2)


class RestFirst(Shifted):
    """Takes the unequal part before the equal one."""

    def __init__(self):
        super().__init__()
        self.frames = 2

    def shift(self, x):
        fold, out = 3 * x.shape[2] // self.share, torch.zeros_like(x)
        out[:, :, fold:] = x[:, :, fold:]
        out[:, :-1, :fold] = x[:, 1:, :fold]
        return out


class ByAttributes(Shifted):
    """Holds the length of the parts, which is also the number of frames."""

    def __init__(self):
        super().__init__()
        self.fold = 4

    def shift(self, x):
        out = x.clone()
        out[:, :-1, : self.fold] = x[:, 1:, : self.fold]
        out[:, 1:, self.fold : 2 * self.fold] = x[:, :-1, self.fold : 2 * self.fold]
        return out


FRAMES = torch.randn(4, 3, 2, 2, generator=GENERATOR)


@pytest.mark.parametrize(
    ("kind", "channels"), [(ByZeros, 2), (ByCopy, 2), (ByParts, 2), (RestFirst, 2), (ByAttributes, 4)]
)
def test_a_share_of_the_channels_that_is_shifted_in_time_stays_that_share(tools, kind, channels):
    model = kind()
    structure, small = tools.traced(model, FRAMES)
    assert [group.channels for group in structure.groups if group.prunable] == [channels, 8]
    assert small.first.out_channels == small.second.in_channels < 16
    tools.check_values(model, structure, FRAMES, torch.randn(12, 3, 2, 2, generator=GENERATOR))


class EverySecondWidth(Shifted):
    """Shifts a part whose length is a share of the channels only where their number has another divisor."""

    def shift(self, x):
        part, out = 2 * (x.shape[2] // self.share), x.clone()
        out[:, :-1, :part] = x[:, 1:, :part]
        return out


@pytest.mark.parametrize("width", [16, 32, 48, 64, 80])
def test_a_share_that_is_right_for_every_second_width_stays_whole_with_the_remedy(tools, width):
    structure, _ = tools.traced(EverySecondWidth(width=width), FRAMES)
    assert "let places and scales in its code follow its width" in tools.reasons_of(structure)["first"]


class Limited(Shifted):
    """Shifts a share of the channels that has limits, behind a layer or two."""

    def __init__(self, part, width, is_second):
        super().__init__(share=1, width=width)
        self.part = part
        if is_second:
            self.first = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, width, 1))

    def shift(self, x):
        part, out = self.part(x.shape[2]), x.clone()
        out[:, :-1, :part] = x[:, 1:, :part]
        return out


def at_least_two(width):
    return max(2, width // 8)


def at_most_eight(width):
    return min(8, width // 8)


@pytest.mark.parametrize(("part", "width", "is_second"), [(at_least_two, 32, True), (at_most_eight, 76, False)])
def test_a_share_that_is_wrong_for_the_narrowest_or_widest_cut_stays_whole_with_the_remedy(
    tools, part, width, is_second
):
    structure, _ = tools.traced(Limited(part, width, is_second), FRAMES)
    name = "first.1" if is_second else "first"
    assert "let places and scales in its code follow its width" in tools.reasons_of(structure)[name]


def test_a_share_that_does_not_divide_the_channels_stays_whole_with_the_remedy(tools):
    structure, _ = tools.traced(ByZeros(share=3), FRAMES)
    assert tools.reasons_of(structure)["first"] == UNEQUAL
