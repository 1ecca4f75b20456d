"""Networks that run other layers on other inputs than the example: what these read stays whole, before the search."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import amc
from amc.tracing.other_inputs import without_failing_on
from amc.tracing.trace import trace_structure


def images(count=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 4, (count,), generator=generator)
    return torch.rand(count, 3, 8, 8, generator=generator) + classes.view(-1, 1, 1, 1) / 4, classes


class TwoWays(nn.Module):
    """A body that two layers may read, one of them only at times; and layers behind them that always run."""

    def __init__(self):
        super().__init__()
        self.body, self.rare = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.scale = nn.BatchNorm2d(8), nn.Parameter(torch.ones(8, 1, 1))
        self.always, self.head = nn.Conv2d(8, 12, 3), nn.Linear(12, 4)

    def takes(self, x):
        return len(x) > 1

    def more(self, x):
        return self.rare(x)

    def forward(self, x):
        y = self.body(x)
        y = self.more(y) if self.takes(x) else y
        return self.head(self.always(y.relu()).mean((2, 3)))


class InTraining(TwoWays):
    def takes(self, x):
        return self.training and len(x) > 1


class ForSomeImages(TwoWays):
    """One image in some hundred takes the other way."""

    def takes(self, x):
        return bool((x[:, 0, 0, 0] > 1.65).any())


class ByFunction(TwoWays):
    def more(self, x):
        return nn.functional.conv2d(x, self.rare.weight, padding=1)


class Norm(TwoWays):
    def more(self, x):
        return self.norm(x)


class Scale(TwoWays):
    def more(self, x):
        return x * self.scale


class Number(TwoWays):
    def more(self, x):
        return x.flatten(2).view(len(x), 8, *x.shape[2:])


KINDS = [TwoWays, InTraining, ForSomeImages, ByFunction, Norm, Scale, Number]


@pytest.mark.parametrize("kind", KINDS)
def test_what_feeds_a_layer_that_runs_at_times_stays_whole_and_the_rest_is_cut(kind):
    torch.manual_seed(0)
    data, options = (images(200), images(40, seed=1)), {"agent": "random", "episodes": 2, "device": "cpu"}
    tuned, search = amc.FineTuneConfig(epochs=1, batch_size=20), amc.SearchConfig(untrained=True)
    result = amc.compress(kind(), data, amc.Budget(flops=0.8), finetune=tuned, search=search, **options)
    assert list(result.allocation.widths) == ["always"]
    assert result.model.body.out_channels == 8
    assert result.model.always.out_channels < 12


class Same(TwoWays):
    """Takes one way for all, and counts its runs."""

    def __init__(self):
        super().__init__()
        self.register_buffer("runs", torch.zeros(()))
        self.seen = []

    def takes(self, x):
        self.runs += 1
        self.seen.append(len(x))
        return True


class NeedsTargets(Same):
    """Does not run in training mode, whatever its widths."""

    def forward(self, x, targets=None):
        if self.training and targets is None:
            raise ValueError("targets are missing")
        return super().forward(x)


@pytest.mark.parametrize("kind", [Same, NeedsTargets])
def test_one_way_for_all_leaves_all_groups_and_the_network_as_they_are(kind):
    model, (x, _) = kind().eval(), images(8)
    structure = trace_structure(model, x[:1])
    runs, seen, values = model.runs.clone(), list(model.seen), {k: v.clone() for k, v in model.state_dict().items()}
    assert without_failing_on(model, structure, x) == structure
    assert torch.equal(model.runs, runs)
    assert model.seen == seen
    assert not model.training
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def test_the_reason_says_what_failed_and_what_to_do():
    model, (x, _) = TwoWays(), images(8)
    structure = without_failing_on(model, trace_structure(model, x[:1]), x)
    (body,) = [group for group in structure.groups if group.name == "body"]
    assert body.reason.startswith("on other inputs than the example the network takes another way, on which it counts")
    assert "expected input[8, 3, 8, 8] to have 8 channels" in body.reason
    assert body.reason.endswith("; let it run the same layers for all")
    assert structure.not_run == ("rare",)
