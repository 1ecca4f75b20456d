"""Convolutional building blocks: who couples with whom, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Lambda(nn.Module):
    """A network made of named parts and a forward function."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def conv(inputs, outputs, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def point(inputs, outputs, **options):
    return nn.Conv2d(inputs, outputs, 1, **options)


def test_chain_of_convolutions_and_batch_norms(tools):
    model = nn.Sequential(conv(3, 8, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), conv(8, 5))
    structure, small = tools.traced(model, IMAGE)
    first, last = structure.groups
    assert (first.name, first.channels, first.writers, first.readers) == ("0", 8, ("0",), ("3",))
    assert {(cut.tensor, cut.axis, cut.role) for cut in first.cuts} == {
        ("0.weight", 0, "write"),
        ("1.weight", 0, "follow"),
        ("1.bias", 0, "follow"),
        ("1.running_mean", 0, "follow"),
        ("1.running_var", 0, "follow"),
        ("3.weight", 1, "read"),
    }
    assert all(cut.positions == tuple((channel,) for channel in range(8)) for cut in first.cuts)
    assert last.reason == "the network's output"
    assert structure.dense_flops == 64 * (9 * 3 * 8 + 2 * 8 + 9 * 8 * 5)
    assert (small[0].out_channels, small[1].num_features, small[3].in_channels) == (3, 3, 3)


def test_what_is_cut_equals_the_dense_network_that_ignores_the_channels(tools):
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 5))
    structure, _ = tools.traced(model, IMAGE)
    small, kept = tools.cut_half(model, structure)
    gone = [channel for channel in range(8) if channel not in kept[0].tolist()]
    with torch.no_grad():
        model[3].weight[:, gone] = 0
    for found, expected in zip(tools.outputs_of(small, IMAGE), tools.outputs_of(model, IMAGE), strict=True):
        torch.testing.assert_close(found, expected)


def test_residual_sum_couples_its_writers(tools):
    model = Lambda(
        lambda m, x: m.head(m.stem(x).add_(m.body(m.stem(x))).relu()), stem=conv(3, 6), body=conv(6, 6), head=conv(6, 2)
    )
    model = Lambda(_residual, stem=conv(3, 6), inner=conv(6, 9), outer=conv(9, 6), head=conv(6, 2))
    structure, _ = tools.traced(model, IMAGE)
    groups = tools.groups_of(structure)
    assert groups["stem"].writers == ("stem", "outer")
    assert groups["stem"].readers == ("inner", "head")
    assert groups["stem"].residual
    assert not groups["inner"].residual
    assert groups["inner"].channels == 9


def _residual(m, x):
    x = m.stem(x)
    return m.head(x + m.outer(m.inner(x).relu()))


def test_concatenation_keeps_groups_apart_and_shifts_positions(tools):
    model = Lambda(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 4), b=conv(3, 6), c=conv(10, 2))
    structure, _ = tools.traced(model, IMAGE)
    groups = tools.groups_of(structure)
    reads = {name: next(cut for cut in groups[name].cuts if cut.role == "read") for name in ("a", "b")}
    assert reads["a"].positions == tuple((channel,) for channel in range(4))
    assert reads["b"].positions == tuple((4 + channel,) for channel in range(6))


def test_flatten_gives_every_channel_its_block_of_columns(tools):
    model = nn.Sequential(conv(3, 4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 3))
    structure, small = tools.traced(model, IMAGE)
    read = next(cut for cut in structure.groups[0].cuts if cut.role == "read")
    assert read.positions == tuple(tuple(range(16 * channel, 16 * channel + 16)) for channel in range(4))
    assert small[3].in_features == 16 * small[0].out_channels


def test_depthwise_convolution_follows_its_input(tools):
    model = nn.Sequential(point(3, 6), conv(6, 6, groups=6), nn.BatchNorm2d(6), point(6, 2))
    structure, small = tools.traced(model, IMAGE)
    groups = tools.groups_of(structure)
    assert list(groups) == ["0", "3"]
    assert groups["0"].readers == ("3",)
    assert structure.layers[1].kind == "depthwise"
    assert small[1].groups == small[0].out_channels == len(small[1].weight)


def test_depthwise_multiplier_keeps_the_filters_of_a_channel_together(tools):
    model = nn.Sequential(point(3, 4), conv(4, 8, groups=4), point(8, 2))
    structure, _ = tools.traced(model, IMAGE)
    assert structure.groups[0].channels == 4
    written = next(cut for cut in structure.groups[0].cuts if cut.tensor == "1.weight")
    assert written.positions == ((0, 1), (2, 3), (4, 5), (6, 7))


def test_many_small_convolution_groups_go_as_wholes(tools):
    model = nn.Sequential(point(3, 16), conv(16, 16, groups=8), point(16, 2))
    structure, small = tools.traced(model, IMAGE)
    assert structure.groups[0].channels == 8
    assert small[1].weight.shape[1] == 2
    assert small[1].groups == len(small[1].weight) // 2 < 8


def test_few_large_convolution_groups_lose_the_same_places(tools):
    model = nn.Sequential(point(3, 16), conv(16, 12, groups=2), point(12, 2))
    structure, small = tools.traced(model, IMAGE)
    assert [(group.name, group.channels) for group in structure.groups] == [("0", 8), ("1", 6), ("2", 2)]
    assert next(cut for cut in structure.groups[0].cuts if cut.role == "write").positions[3] == (3, 11)
    assert small[1].groups == 2


def test_grouped_convolution_over_the_image_stays(tools):
    model = nn.Sequential(conv(3, 6, groups=3), conv(6, 2))
    structure, _ = tools.traced(model, IMAGE)
    assert tools.reasons_of(structure)["0"] == "convolution in groups over channels that stay"


def test_channel_shuffle_is_followed(tools):
    model = nn.Sequential(point(3, 12), nn.ChannelShuffle(3), point(12, 2))
    structure, _ = tools.traced(model, IMAGE)
    group = structure.groups[0]
    assert group.channels == 4  # each third loses the same places, so that what is left can be shuffled again
    places = {cut.role: cut.positions[1] for cut in group.cuts if cut.tensor.endswith("weight")}
    assert places == {"write": (1, 5, 9), "read": (3, 4, 5)}


def test_shuffle_by_reshaping_is_followed(tools):
    def shuffle(m, x):
        x = m.a(x)
        x = x.view(x.shape[0], 2, x.shape[1] // 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        return m.b(x)

    structure, _ = tools.traced(Lambda(shuffle, a=point(3, 8), b=point(8, 2)), IMAGE)
    assert [group.channels for group in structure.groups] == [4, 2]


@pytest.mark.parametrize(
    "halves",
    [
        lambda x: x.chunk(2, 1),
        lambda x: x.split(x.shape[1] // 2, 1),
        lambda x: (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]),
        lambda x: x.tensor_split(2, 1),
    ],
    ids=["chunk", "split", "slices", "tensor_split"],
)
def test_halves_of_the_channels_lose_the_same_places(tools, halves):
    def gate(m, x):
        left, right = halves(m.a(x))
        return m.b(left * right.sigmoid())

    structure, _ = tools.traced(Lambda(gate, a=conv(3, 10), b=conv(5, 2)), IMAGE)
    first = structure.groups[0]
    assert first.channels == 5
    assert next(cut for cut in first.cuts if cut.role == "write").positions[2] == (2, 7)


def test_gated_linear_unit(tools):
    model = nn.Sequential(conv(3, 10), nn.GLU(dim=1), conv(5, 2))
    structure, small = tools.traced(model, IMAGE)
    assert structure.groups[0].channels == 5
    assert small[0].out_channels == 2 * small[2].in_channels


def test_unequal_pieces_stay(tools):
    def pieces(m, x):
        left, right = m.a(x).split([2, 4], 1)
        return m.b(left) + m.c(right)

    structure, _ = tools.traced(Lambda(pieces, a=conv(3, 6), b=conv(2, 3), c=conv(4, 3)), IMAGE)
    assert tools.reasons_of(structure)["a"] == "split into pieces of fixed, unequal sizes"


def test_squeeze_and_excitation(tools):
    def excite(m, x):
        x = m.a(x)
        return m.b(x * m.up(m.down(m.pool(x)).relu()).sigmoid())

    parts = {"a": conv(3, 8), "pool": nn.AdaptiveAvgPool2d(1), "down": point(8, 4), "up": point(4, 8), "b": conv(8, 2)}
    structure, _ = tools.traced(Lambda(excite, **parts), IMAGE)
    groups = tools.groups_of(structure)
    assert groups["a"].writers == ("a", "up")
    assert groups["a"].readers == ("down", "b")
    assert not groups["a"].residual
    assert groups["down"].channels == 4


@pytest.mark.parametrize("order", ["mask first", "mask last"])
def test_a_mask_of_one_channel_does_not_couple_what_it_masks(tools, order):
    def masked(m, x):
        mask, image = m.mask(x).sigmoid(), m.a(x)
        return m.b(mask * image if order == "mask first" else image * mask)

    structure, _ = tools.traced(Lambda(masked, mask=conv(3, 1), a=conv(3, 6), b=conv(6, 2)), IMAGE)
    groups = tools.groups_of(structure)
    assert groups["a"].prunable
    assert groups["a"].channels == 6
    assert groups["mask"].reason == "broadcast over the channels of another activation"


def test_statistics_over_channels_leave_them_prunable_and_are_noted(tools):
    def attend(m, x):
        x = m.a(x)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return m.b(x * m.spatial(pooled).sigmoid())

    structure, _ = tools.traced(Lambda(attend, a=conv(3, 6), spatial=conv(2, 1), b=conv(6, 2)), IMAGE)
    groups = tools.groups_of(structure)
    assert groups["a"].prunable
    assert groups["a"].normalised
    assert groups["b"].normalised is False


@pytest.mark.parametrize("positions", [lambda x: x.argmax(1), lambda x: x.max(1)[1], lambda x: x.min(1)[1] + 1])
def test_positions_of_channels_in_the_output_are_left_alone(tools, positions):
    structure, _ = tools.traced(Lambda(lambda m, x: positions(m.a(x)), a=conv(3, 6)), IMAGE)
    assert "positions of its channels" in tools.reasons_of(structure)["a"]


@pytest.mark.parametrize(
    "order",
    [
        lambda x: x.gather(1, x.max(1, keepdim=True)[1]),
        lambda x: x.median(1)[1],
        lambda x: x.sort(1)[1],
        lambda x: x.topk(2, 1)[1],
    ],
)
def test_other_functions_that_order_channels_leave_them_alone(tools, order):
    structure, _ = tools.traced(Lambda(lambda m, x: order(m.a(x)), a=conv(3, 6)), IMAGE)
    assert tools.reasons_of(structure).keys() == {"a"}


def test_the_greatest_channel_leaves_all_prunable_where_nobody_asks_which_it_is(tools):
    def attend(m, x):
        x = m.a(x)
        return m.b(x * m.spatial(x.max(1, keepdim=True)[0]).sigmoid())

    structure, _ = tools.traced(Lambda(attend, a=conv(3, 6), spatial=conv(1, 1), b=conv(6, 2)), IMAGE)
    groups = tools.groups_of(structure)
    assert groups["a"].prunable
    assert groups["a"].normalised


def test_pixel_shuffle_takes_four_channels_for_one(tools):
    model = nn.Sequential(conv(3, 12), nn.PixelShuffle(2), conv(3, 2))
    structure, small = tools.traced(model, IMAGE)
    assert structure.groups[0].channels == 3
    assert structure.groups[0].cuts[0].positions == ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))
    assert small[0].out_channels == 4 * small[2].in_channels


def test_pixel_unshuffle_gives_a_channel_four_places(tools):
    model = nn.Sequential(conv(3, 5), nn.PixelUnshuffle(2), conv(20, 2))
    structure, _ = tools.traced(model, IMAGE)
    assert structure.groups[0].channels == 5
    assert next(cut for cut in structure.groups[0].cuts if cut.role == "read").positions[1] == (4, 5, 6, 7)


@pytest.mark.parametrize("padding", ["pad", "cat"])
def test_zero_padded_shortcut_is_left_alone(tools, padding):
    def shortcut(m, x):
        x = m.a(x)
        if padding == "pad":
            padded = nn.functional.pad(x, (0, 0, 0, 0, 1, 2))
        else:
            zeros = torch.zeros(len(x), 1, *x.shape[2:])
            padded = torch.cat([zeros, x, zeros, zeros], 1)
        return m.d(padded + m.c(m.b(x)))

    model = Lambda(shortcut, a=conv(3, 4), b=conv(4, 5), c=conv(5, 7), d=conv(7, 2))
    structure, _ = tools.traced(model, IMAGE)
    groups = tools.groups_of(structure)
    assert groups["b"].prunable
    fixed = [group for group in structure.groups if group.reason and "c" in group.writers]
    assert sum(group.channels for group in fixed) >= 3  # the channels that meet zeros
    expected = "padded with a fixed number" if padding == "pad" else "concatenated with a constant"
    assert any(expected in group.reason for group in fixed)


def test_transposed_convolution(tools):
    model = nn.Sequential(conv(3, 6), nn.ConvTranspose2d(6, 4, 2, stride=2), conv(4, 2))
    structure, small = tools.traced(model, IMAGE)
    assert [(group.name, group.channels, group.prunable) for group in structure.groups] == [
        ("0", 6, True),
        ("1", 4, True),
        ("2", 2, False),
    ]
    assert tuple(small[1].weight.shape[:2]) == (small[0].out_channels, small[2].in_channels)


def test_norms_over_channels(tools):
    model = nn.Sequential(conv(3, 8), nn.GroupNorm(2, 8), conv(8, 6), nn.InstanceNorm2d(6, affine=True), conv(6, 2))
    structure, small = tools.traced(model, IMAGE)
    assert [(group.channels, group.normalised) for group in structure.groups] == [(4, True), (6, False), (2, False)]
    assert small[1].num_channels == small[0].out_channels
    assert small[3].num_features == small[2].out_channels


def test_root_mean_square_norms_remember_the_width_that_is_left(tools):
    model = nn.Sequential(nn.Linear(4, 12), nn.RMSNorm(12), nn.Linear(12, 2))
    structure, small = tools.traced(model, torch.ones(1, 3, 4))
    assert structure.groups[0].prunable
    assert structure.groups[0].normalised
    assert small[1].normalized_shape == (small[0].out_features,)


def test_variance_and_mean_over_channels_leave_them_prunable(tools):
    def normalise(m, x):
        variance, mean = torch.var_mean(m.a(x), 1, keepdim=True)
        return m.b((m.a(x) - mean) * variance.rsqrt())

    structure, _ = tools.traced(Lambda(normalise, a=conv(3, 6), b=conv(6, 2)), IMAGE)
    assert tools.groups_of(structure)["a"].prunable


@pytest.mark.parametrize("activation", [nn.PReLU(6), nn.LeakyReLU(), nn.Hardswish(), nn.SiLU(), nn.Dropout2d()])
def test_activations_pass_channels_through(tools, activation):
    structure, _ = tools.traced(nn.Sequential(conv(3, 6), activation, conv(6, 2)), IMAGE)
    assert structure.groups[0].prunable
    assert structure.groups[0].channels == 6


@pytest.mark.parametrize("size", [2, 5])
def test_resizing_and_pooling(tools, size):
    resize = nn.Upsample(scale_factor=2, mode="bilinear")
    model = nn.Sequential(conv(3, 6), resize, nn.AdaptiveAvgPool2d(size), nn.AvgPool2d(2), conv(6, 2))
    structure, _ = tools.traced(model, IMAGE)
    assert structure.groups[0].prunable


def test_one_dimension_and_three(tools):
    line = nn.Sequential(nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.MaxPool1d(2), nn.Conv1d(6, 2, 3))
    structure, _ = tools.traced(line, torch.randn(1, 3, 16))
    assert structure.groups[0].prunable
    volume = nn.Sequential(nn.Conv3d(3, 6, 3), nn.BatchNorm3d(6), nn.MaxPool3d(2), nn.Conv3d(6, 2, 2))
    structure, _ = tools.traced(volume, torch.randn(1, 3, 8, 8, 8))
    assert structure.groups[0].prunable


def test_a_batch_of_several_examples_couples_the_same(tools):
    model = nn.Sequential(conv(3, 6), nn.InstanceNorm2d(6), nn.Flatten(), nn.Linear(6 * 64, 3))
    structure, _ = tools.traced(model, torch.randn(4, 3, 8, 8))
    assert structure.groups[0].channels == 6
    assert structure.groups[0].prunable


def test_the_size_of_pieces_that_a_module_remembers_follows(tools):
    class Pieces(nn.Module):  # as in Res2Net
        def __init__(self):
            super().__init__()
            self.width = 4
            self.a, self.b, self.c = conv(3, 12), conv(4, 4), conv(12, 2)

        def forward(self, x):
            first, *rest = torch.split(self.a(x), self.width, 1)
            return self.c(torch.cat([first, *(self.b(piece) for piece in rest)], 1))

    structure, small = tools.traced(Pieces(), IMAGE)
    assert small.width == small.b.in_channels < 4
    assert all(group.prunable for group in structure.groups[:-1])


def test_a_shape_that_a_module_remembers_follows(tools):
    class Scale(nn.Module):  # as in PoolFormer
        def __init__(self):
            super().__init__()
            self.shape = (6, 1, 1)
            self.scale = nn.Parameter(torch.ones(6))

        def forward(self, x):
            return x * self.scale.view(self.shape)

    structure, small = tools.traced(nn.Sequential(conv(3, 6), Scale(), conv(6, 2)), IMAGE)
    assert structure.groups[0].prunable
    assert small[1].shape == (small[0].out_channels, 1, 1)
