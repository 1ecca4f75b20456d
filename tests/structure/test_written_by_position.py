"""Channels that are written by mask, at positions, or into a tensor like another: they are cut with what they meet."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.tracing.rules_writing import BY_POSITION, NOTHING, ONE_BY_ONE

GENERATOR = torch.Generator().manual_seed(1)
SEQUENCE = torch.randn(1, 5, 4, generator=GENERATOR)
OTHERS = (torch.randn(3, 5, 4, generator=GENERATOR), -SEQUENCE)
STEPS = torch.tensor([0, 2, 3])


class Written(nn.Module):
    """Embeds five steps, writes them somewhere, and reads them there."""

    def __init__(self, operator):
        super().__init__()
        self.operator, self.embed, self.mix = operator, nn.Linear(4, 8), nn.Linear(8, 8)
        self.other, self.head = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("steps", STEPS)

    def forward(self, x):
        return self.head(self.operator(self, self.embed(x), x))


def like_step_by_step(net, y, x):
    out = torch.empty_like(y)
    for step in range(y.shape[1]):
        out[:, step] = net.mix(y[:, step])
    return out


def like_at_steps(net, y, x):
    out = torch.zeros_like(y).transpose(1, 2)
    out[:, :, net.steps] = net.mix(y[:, net.steps]).transpose(1, 2)
    return out.transpose(1, 2)


def full_like(net, y, x):
    out = torch.full_like(y, 0.5)
    out[:, 1:] = net.other(x[:, :-1])
    return out


def over_a_copy(net, y, x):
    out = y.clone()
    out[:, 2:] = net.mix(y[:, 2:])
    return out


def of_equal_shape(net, y, x):
    out = y.new_zeros(y.shape)
    out[:, 2:] = net.mix(y[:, 2:])
    return out


def of_the_same_sizes(net, y, x):
    batch, steps, width = y.shape
    out = torch.zeros(batch, steps, width)
    keep = x[..., 0] > 0
    out[keep] = net.mix(y[keep])
    return out


def rows_of_experts(net, y, x):
    batch, steps, width = y.shape
    out, rows = torch.zeros(batch * steps, width), y.reshape(-1, y.shape[-1])
    keep = torch.where(x.reshape(-1, 4)[:, 0] > 0)[0]
    return out.index_add_(0, keep, net.mix(rows[keep])).view(batch, steps, width)


def by_mask(net, y, x):
    out, keep = torch.zeros_like(y), x[..., 0] > 0
    out[keep] = net.mix(y[keep])
    return out


def masked_with_zero(net, y, x):
    y = y.relu()
    y[x[..., 0] > 0] = 0.0
    return y


def by_own_sign(net, y, x):
    y = y.clone()
    y[y < 0] = 0.1
    return y


def by_the_sign_of_another(net, y, x):
    y = y.clone()
    y[net.other(x) < 0] = 0.1
    return y


def masked_scatter(net, y, x):
    keep = x[..., :1] > 0
    return y.masked_scatter(keep.expand_as(y), net.mix(y[keep[..., 0]]))


def where(net, y, x):
    return torch.where(x[..., :1] > 0, net.mix(y), torch.zeros_like(y))


def index_copy(net, y, x):
    return torch.zeros_like(y).index_copy(1, net.steps, net.mix(y[:, net.steps]))


def index_add(net, y, x):
    return y.index_add(1, net.steps, net.mix(y[:, net.steps]))


def index_fill(net, y, x):
    return y.index_fill(1, net.steps, 0.0)


def scatter(net, y, x):
    index = net.steps[None, :, None].expand(len(x), 3, y.shape[-1])
    return torch.zeros_like(y).scatter(1, index, net.mix(y[:, net.steps]))


def scatter_add(net, y, x):
    index = net.steps[None, :, None].expand_as(y[:, :3])
    return torch.zeros_like(y).scatter_add(1, index, net.mix(y[:, :3]))


def scatter_maximum(net, y, x):
    index = torch.tensor([0, 1, 1, 2, 0])[None, :, None].expand_as(y)
    return y.new_zeros(len(y), 3, y.shape[-1]).scatter_reduce(1, index, y, "amax")


def scatter_sorted(net, y, x):
    index = x[..., :1].argsort(1)
    return torch.zeros_like(y).scatter(1, index.expand_as(y), net.mix(y))


def index_put(net, y, x):
    rows, steps = torch.arange(len(y))[:, None], x[..., 0].topk(2).indices
    out = torch.zeros_like(y)
    return out.index_put_((rows, steps), net.mix(y[rows, steps]), accumulate=True)


def select_and_slice(net, y, x):
    out = torch.select_scatter(torch.zeros_like(y), net.mix(y[:, 1]), 1, 1)
    return torch.slice_scatter(out, net.mix(y[:, 2:4]), 1, 3, 5)


def added_to_zeros(net, y, x):
    out = torch.zeros_like(y)
    out += net.mix(y)
    out.add_(net.other(x), alpha=0.5)
    return out


def added_step_by_step(net, y, x):
    out = y.new_zeros(len(y), 5, y.shape[-1])
    for step in range(1, 5):
        out[:, step] += net.mix(y[:, step - 1])
    return out


def a_view_made_before(net, y, x):
    out = torch.zeros(len(y), 5, y.shape[-1])
    first, rows = out[:, :2], out.view(-1, y.shape[-1])
    first.copy_(net.mix(y[:, :2]))
    return out + rows.view(len(y), 5, -1)


def without_its_history(net, y, x):
    out = torch.zeros(len(y), 5, y.shape[-1])
    out.data[:, 1:] = y[:, 1:]
    return out


def as_output(net, y, x):
    out = torch.empty(len(y), 5, y.shape[-1])
    torch.mul(y, 2.0, out=out[:, :])
    return out


OPERATORS = [
    *(like_step_by_step, like_at_steps, full_like, over_a_copy, of_equal_shape, of_the_same_sizes, rows_of_experts),
    *(by_mask, masked_with_zero, by_own_sign, by_the_sign_of_another, masked_scatter, where),
    *(index_copy, index_add, index_fill, index_put, scatter, scatter_add, scatter_maximum, scatter_sorted),
    *(select_and_slice, added_to_zeros, added_step_by_step, a_view_made_before, without_its_history, as_output),
]


@pytest.mark.parametrize("operator", OPERATORS)
def test_channels_that_are_written_somewhere_are_cut(tools, operator):
    model = Written(operator)
    structure, small = tools.traced(model, SEQUENCE)
    assert [group.channels for group in structure.groups] == [8, 3]
    assert small.embed.out_features == small.head.in_features < 8
    tools.check_values(model, structure, SEQUENCE, *OTHERS)


def test_what_is_written_into_zeros_makes_no_stream_but_a_sum_of_two_layers_does(tools):
    structures = [tools.traced(Written(operator), SEQUENCE)[0] for operator in (added_step_by_step, added_to_zeros)]
    assert [tools.groups_of(structure)["embed"].residual for structure in structures] == [False, True]


def test_a_tensor_that_is_like_the_input_belongs_to_no_channel(tools):
    class Masked(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x) * torch.ones_like(x[:, :1]))

    structure, _ = tools.traced(Masked(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)), torch.randn(1, 3, 4, 4))
    assert tools.groups_of(structure)["0"].prunable


def noise(net, y, x):
    return y + torch.empty_like(y).uniform_(0.1, 0.2).sign()


def triangle(net, y, x):
    return y * torch.ones_like(y).tril(9)


@pytest.mark.parametrize("operator", [noise, triangle])
def test_what_is_only_as_wide_as_an_activation_freezes_nothing(tools, operator):
    structure, _ = tools.traced(Written(operator), SEQUENCE)
    assert tools.groups_of(structure)["embed"].prunable


def numbered_channels(net, y, x):
    out = y.clone()
    out[..., net.steps] = net.other(x)[..., :1]
    return out


def half_of_the_channels(net, y, x):
    index = torch.zeros(len(x), 2, 4, dtype=torch.long)
    return y.scatter(1, index, net.other(x))


def single_elements(net, y, x):
    out = torch.zeros_like(y)
    out[y > 0] = y[y > 0].exp()
    return out


def scattered_elements(net, y, x):
    return y.masked_scatter(y > 0, net.other(x))


def nowhere(net, y, x):
    return y.masked_scatter(x[..., :1] > 9, net.other(x))


REASONS = [
    (numbered_channels, BY_POSITION),
    (half_of_the_channels, BY_POSITION),
    (single_elements, ONE_BY_ONE),
    (scattered_elements, ONE_BY_ONE),
    (nowhere, NOTHING),
]


@pytest.mark.parametrize(("operator", "reason"), REASONS)
def test_channels_that_are_written_one_by_one_stay_whole_with_the_remedy(tools, operator, reason):
    structure, _ = tools.traced(Written(operator), SEQUENCE)
    assert not structure.prunable
    assert tools.reasons_of(structure)["embed"] == reason
