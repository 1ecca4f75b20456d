"""Whole networks: forms of inputs and outputs, shared weights, auxiliary heads, and networks that cannot be traced."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from amc.tracing.trace import trace_structure

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Three convolutions; subclasses change what lies between them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Conv2d(8, 2, 3)

    def between(self, x):
        return x

    def forward(self, x):
        return self.c(self.b(self.between(self.a(x))).relu())


def test_an_unknown_operator_freezes_what_it_reads_and_is_named(tools):
    class Summed(Net):
        def between(self, x):
            return x.logcumsumexp(dim=1)

    structure, _ = tools.traced(Summed(), IMAGE)
    assert tools.reasons_of(structure)["a"] == "read by the operator 'logcumsumexp', which has no coupling rule"
    assert tools.groups_of(structure)["b"].prunable


def test_an_operator_used_in_an_unforeseen_way_freezes_what_it_reads(tools, monkeypatch):
    from amc.tracing.rules import RULES

    def fails(*_):
        raise IndexError("tuple index out of range")

    monkeypatch.setitem(RULES, "max_pool2d_with_indices", fails)

    class Pooled(Net):
        def between(self, x):
            return nn.functional.max_pool2d(x, 2, 1)

    structure, _ = tools.traced(Pooled(), IMAGE)
    reason = tools.reasons_of(structure)["a"]
    assert "'max_pool2d_with_indices' in a way that its coupling rule does not cover" in reason
    assert "tuple index out of range" in reason
    assert tools.groups_of(structure)["b"].prunable


def viewed(x, width):
    """A function outside of the network: numbers that it is called with are not looked for."""
    return x.reshape(len(x), width, *x.shape[2:])


def test_a_width_written_into_the_code_around_the_network_is_left_alone(tools):
    viewed_as_six = partial(viewed, width=6)

    class Fixed(Net):
        def between(self, x):
            return viewed_as_six(x)

    structure, _ = tools.traced(Fixed(), IMAGE)
    shapes = trace_structure(tools.randomise(Fixed()), IMAGE, verify="shapes")
    for found in (structure, shapes):
        assert tools.reasons_of(found)["a"].startswith("the network's code counts on its width: ")
        assert tools.groups_of(found)["b"].prunable


def test_a_width_that_changes_what_is_computed_is_left_alone(tools):
    class Scaled(Net):
        def between(self, x):
            return x * x.shape[1] ** 2 if x.shape[1] == 6 else x

    structure, _ = tools.traced(Scaled(), IMAGE)
    assert tools.reasons_of(structure)["a"].startswith("the network computes something else when it is narrower: let ")
    assert tools.groups_of(structure)["b"].prunable
    unseen = trace_structure(tools.randomise(Scaled()), IMAGE, verify="shapes")
    assert tools.groups_of(unseen)["a"].prunable


def test_groups_that_fail_together_only_are_not_both_offered(tools):
    class Jointly(Net):
        def forward(self, x):
            x = self.a(x)
            y = self.b(x)
            if x.shape[1] <= 5 and y.shape[1] <= 7:
                raise ValueError("too narrow")
            return self.c(y)

    structure, _ = tools.traced(Jointly(), IMAGE)
    assert [group.prunable for group in structure.groups] == [True, False, False]
    assert "too narrow" in structure.groups[1].reason


def test_what_reads_a_part_of_the_channels_by_place_is_left_alone(tools):
    bound = 4

    class Part(Net):
        def between(self, x):
            return torch.cat([x[:, bound:], x[:, :bound]], 1)

    structure, _ = tools.traced(Part(), IMAGE)
    assert "let places and scales in its code follow its width" in tools.reasons_of(structure)["a"]


def test_shared_layers_are_cut_once(tools):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 2, 1)
            self.again = self.block

        def forward(self, x):
            return self.head(self.again(self.block(self.stem(x)).relu()))

    structure, small = tools.traced(Shared(), IMAGE)
    block = next(layer for layer in structure.layers if layer.name == "block")
    assert block.calls == 2
    assert block.flops == 2 * 64 * 9 * 36
    assert block.batch_norm is None
    assert [(group.name, group.channels) for group in structure.groups] == [("stem", 6), ("head", 2)]
    assert small.again.weight is small.block.weight


def test_shared_parameters_stay_shared(tools):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.inner, self.outer = nn.Embedding(20, 8), nn.Linear(8, 12), nn.Linear(12, 8)
            self.head = nn.Linear(8, 20, bias=False)
            self.head.weight = self.words.weight

        def forward(self, tokens):
            return self.head(self.outer(self.inner(self.words(tokens)).relu()))

    structure, small = tools.traced(Tied(), torch.randint(0, 20, (1, 5)))
    assert small.head.weight is small.words.weight
    assert tools.groups_of(structure)["inner"].channels == 12


class Auxiliary(Net):
    """A second head that only the training mode runs; the first reader of `a` besides `b`."""

    def __init__(self):
        super().__init__()
        self.aux = nn.Sequential(nn.Conv2d(6, 5, 1), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1))

    def forward(self, x):
        x = self.a(x)
        y = self.c(self.b(x))
        return (y, self.aux(x)) if self.training else y


def test_auxiliary_heads_are_cut_along(tools):
    model = Auxiliary()
    structure, small = tools.traced(model, IMAGE)
    groups = tools.groups_of(structure)
    assert groups["a"].readers == ("b", "aux.0")
    assert groups["aux.0"].reason == "part of an auxiliary head, which the output in evaluation mode does not depend on"
    assert structure.dense_flops == 36 * 27 * 6 + 16 * 54 * 8 + 4 * 72 * 2  # as in evaluation mode
    assert [layer.name for layer in structure.layers] == ["a", "b", "c"]
    small.train()
    assert [tuple(output.shape) for output in small(IMAGE.repeat(2, 1, 1, 1))] == [(2, 2, 2, 2), (2, 2, 6, 6)]


def test_a_network_that_wants_more_in_training_mode_is_traced_as_it_is_in_evaluation_mode(tools):
    class Demanding(Auxiliary):
        def forward(self, x, target=None):
            if self.training and target is None:
                raise ValueError("targets must not be None in training mode")
            return self.c(self.b(self.a(x)))

    structure, _ = tools.traced(Demanding(), IMAGE)
    assert tools.groups_of(structure)["a"].readers == ("b",)


def test_a_buffer_that_the_network_replaces_is_restored(tools):
    class Growing(Net):
        """Makes a table of positions for every new size of its input, as ConViT does."""

        def __init__(self):
            super().__init__()
            self.register_buffer("positions", torch.zeros(1), persistent=False)

        def between(self, x):
            if len(self.positions) != x.shape[-1]:
                self.positions = torch.arange(1.0, x.shape[-1] + 1)
            return x * self.positions

    model = Growing()
    before = model.positions
    trace_structure(model, IMAGE)
    assert model.positions is before
    assert before.tolist() == [0.0]
    again = Growing()
    again.load_state_dict(model.state_dict())
    assert torch.equal(tools.outputs_of(model, IMAGE)[0], tools.outputs_of(again, IMAGE)[0])


def test_tracing_leaves_modes_buffers_and_random_numbers_alone():
    model = nn.Sequential(Auxiliary(), nn.Flatten(), nn.BatchNorm1d(8)).train()
    model[0].b.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    trace_structure(model, IMAGE)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.number = nn.Conv2d(3, 6, 3), nn.Linear(4, 6)
        self.mixed, self.head = nn.Conv2d(6, 5, 3), nn.Conv2d(5, 2, 1)

    def forward(self, image, number=None, scale=1.0):
        x = self.image(image)
        if number is not None:
            x = x + self.number(number)[:, :, None, None]
        return {"out": self.head(self.mixed(x)) * scale, "features": [x.mean((2, 3))]}


@pytest.mark.parametrize(
    ("example", "writers"),
    [
        ((IMAGE, torch.randn(1, 4)), ("image", "number")),
        ([IMAGE, torch.randn(1, 4), 2.0], ("image", "number")),
        ({"image": IMAGE, "number": torch.randn(1, 4), "scale": 0.5}, ("image", "number")),
        ({"image": IMAGE}, ("image",)),
    ],
    ids=["tuple", "list", "mapping", "mapping without an option"],
)
def test_inputs_of_any_form_and_outputs_in_mappings(tools, example, writers):
    model = TwoInputs()
    structure = trace_structure(tools.randomise(model), example)
    groups = tools.groups_of(structure)
    assert groups["image"].writers == writers
    assert groups["image"].reason == groups["head"].reason == "the network's output"
    assert groups["mixed"].prunable


def test_outputs_in_objects_are_found(tools):
    @dataclass
    class Output:
        logits: Tensor
        hidden: tuple[Tensor, ...]

    class Wrapped(Net):
        def forward(self, x):
            x = self.a(x)
            return Output(self.c(self.b(x)), (x,))

    structure = trace_structure(tools.randomise(Wrapped()), IMAGE)
    assert [group.reason for group in structure.groups] == ["the network's output", None, "the network's output"]


def test_what_is_summed_with_the_input_is_left_alone(tools):
    class Denoiser(Net):
        def forward(self, x):
            return nn.functional.conv2d(x + self.a(x)[:, :3], torch.ones(1, 3, 1, 1))

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.c(x + self.b(self.a(x)))

    structure, _ = tools.traced(Inner(), IMAGE)
    assert tools.reasons_of(structure)["b"] == "summed with the network's input"
    assert tools.groups_of(structure)["a"].prunable


def test_a_single_channel_is_left_alone(tools):
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1))
    structure, _ = tools.traced(model, IMAGE)
    assert tools.reasons_of(structure)["0"] == "one channel for all that 1.weight reads"
    assert tools.groups_of(structure)["1"].prunable


def test_without_the_trial_what_the_code_counts_on_goes_unseen(tools):
    class Fixed(Net):
        def between(self, x):
            return x.reshape(len(x), 6, 36).reshape(len(x), 6, 6, 6)

    structure = trace_structure(tools.randomise(Fixed()), IMAGE, verify="nothing")
    assert tools.groups_of(structure)["a"].prunable


class Standardised(nn.Conv2d):
    """A convolution whose filters are standardised when it runs, as in BiT and NFNets."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = nn.functional.batch_norm(flat, None, None, weight=self.gain.view(-1), training=True)
        return self._conv_forward(x, weight.reshape_as(self.weight), self.bias)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_weights_that_are_standardised_at_run_time_are_cut(tools, groups):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Standardised(8, 16, 3, groups=groups), nn.Conv2d(16, 2, 1))
    structure, small = tools.traced(model, IMAGE)
    assert structure.groups[0].prunable
    assert structure.groups[0].normalised
    assert len(small[1].gain) == len(small[1].weight) == small[1].out_channels < 16


@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_weights_that_are_normalised_at_run_time_are_cut(tools, kind):
    model = Net() if kind == "convolution" else nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 2))
    nn.utils.parametrizations.weight_norm(model.b if kind == "convolution" else model[1])
    structure, _ = tools.traced(model, IMAGE)
    assert [group.prunable for group in structure.groups] == [True, True, False]
    assert [group.normalised for group in structure.groups] == [True, False, False]


def test_weights_computed_from_two_of_the_same_shape_are_left_alone(tools):
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Parameter(torch.randn(6, 3, 1, 1)), nn.Parameter(torch.randn(6, 3, 1, 1))
            self.b, self.c = nn.Conv2d(6, 5, 1), nn.Conv2d(5, 2, 1)

        def forward(self, x):
            return self.c(self.b(nn.functional.conv2d(x, self.first + self.second.exp())))

    structure, _ = tools.traced(Mixture(), IMAGE)
    assert [(group.name, group.prunable) for group in structure.groups] == [("b", True), ("c", False)]


def test_repeated_blocks_that_fail_alike_are_tried_out_twice_only(tools):
    viewed_as_six = partial(viewed, width=6)

    class Fixed(nn.Module):
        runs = 0

        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)

        def forward(self, x):
            Fixed.runs += 1
            return self.outer(viewed_as_six(self.inner(x)))

    model = nn.Sequential(nn.Conv2d(3, 4, 1), *(Fixed() for _ in range(16)), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 2, 1))
    structure, _ = tools.traced(model, IMAGE)
    reasons = tools.reasons_of(structure)
    assert reasons["1.inner"].startswith("the network's code counts on its width")
    assert reasons["16.inner"] == f"like '1.inner': {reasons['1.inner']}"
    assert sum("inner" in name for name in reasons) == 16
    assert tools.groups_of(structure)["17"].prunable
    assert Fixed.runs < 17 * 16


def test_failures_early_in_a_plain_sequence_do_not_rule_out_the_rest(tools):
    viewed_as_four = partial(viewed, width=4)

    class Fixed(nn.Module):
        def forward(self, x):
            return viewed_as_four(x)

    layers = [nn.Conv2d(4, 4, 1) for _ in range(10)]
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Fixed(), layers[0], Fixed(), *layers[1:])
    structure, _ = tools.traced(model, IMAGE)
    assert [group.prunable for group in structure.groups] == [False, False, *[True] * 8, False]


def test_channels_that_meet_in_a_product_of_two_activations_go_together(tools):
    class Similarity(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(37, 53), nn.Linear(37, 53), nn.Linear(97, 3)

        def forward(self, x):
            return self.c(torch.einsum("bid,bjd->bij", self.a(x), self.b(x)))

    structure, _ = tools.traced(Similarity(), torch.randn(1, 97, 37))
    group = tools.groups_of(structure)["a"]
    assert (group.writers, group.channels, group.prunable) == (("a", "b"), 53, True)
