"""Layers that the example does not run stay whole, and are listed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.cli.main import main
from amc.report.tables import not_run_note

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))

TWO_WAYS = """
from torch import nn

class TwoWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.wide = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1))

    def forward(self, x):
        x = self.body(x)
        if x.shape[-1] > 6:
            x = self.wide(x)
        return self.head(x.mean((2, 3)))
"""


class Extra(nn.Module):
    """A body and a head that run, and something beside them that may not."""

    def __init__(self, extra, forward=lambda model, x: x):
        super().__init__()
        self.body, self.extra, self.head = nn.Conv2d(3, 8, 3), extra, nn.Linear(8, 4)
        self.use = forward

    def forward(self, x):
        return self.head(self.use(self, self.body(x)).mean((2, 3)))


@pytest.mark.parametrize(
    "extra",
    [
        nn.Conv3d(8, 8, 3),
        nn.ConvTranspose2d(8, 8, 3),
        nn.Linear(8, 8, bias=False),
        nn.LSTM(8, 8),
        nn.GRUCell(8, 8),
        nn.Embedding(8, 8),
        nn.MultiheadAttention(8, 2),
    ],
)
def test_a_layer_that_does_not_run_is_listed_once(tools, extra):
    structure, small = tools.traced(Extra(extra), IMAGE)
    assert structure.not_run == ("extra",)
    assert small.body.out_channels < 8
    assert {name: value.shape for name, value in small.extra.named_parameters()} == {
        name: value.shape for name, value in extra.named_parameters()
    }


def test_layers_in_a_part_that_does_not_run_are_listed_in_order(tools):
    part = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ModuleList([nn.Linear(8, 8)]))
    assert tools.traced(Extra(part), IMAGE)[0].not_run == ("extra.0", "extra.2.0")


@pytest.mark.parametrize(
    ("extra", "use"),
    [
        (nn.Conv2d(8, 8, 1), lambda model, x: model.extra(x)),
        (nn.Conv2d(8, 8, 1), lambda model, x: nn.functional.conv2d(x, model.extra.weight)),  # it is not called itself
        (nn.Conv2d(8, 8, 1), lambda model, x: (x, model.extra(x))[model.training]),  # as auxiliary heads do
        (nn.LSTM(8, 8), lambda model, x: model.extra(x.flatten(2).transpose(1, 2))[0].transpose(1, 2)[..., None]),
        (nn.MultiheadAttention(8, 2), lambda model, x: model.extra(*[x.flatten(2).transpose(1, 2)] * 3)[0][..., None]),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)), lambda model, x: model.extra(x)),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)), lambda model, x: x),  # no layer of channels
    ],
)
def test_layers_that_run_are_not_listed(tools, extra, use):
    network = Extra(extra, use)
    if isinstance(extra, (nn.LSTM, nn.MultiheadAttention)):
        network.head = nn.Linear(8 if isinstance(extra, nn.LSTM) else 36, 4)
    structure, _ = tools.traced(network, IMAGE)
    assert structure.not_run == ()


def test_a_layer_that_shares_the_weight_of_one_that_runs_counts_as_run(tools):
    network = Extra(nn.Conv2d(3, 8, 3))
    network.extra.weight = network.body.weight
    network.extra.bias = None
    assert tools.traced(network, IMAGE)[0].not_run == ()


def test_an_example_that_takes_the_other_way_lets_them_be_cut(capsys, tmp_path, monkeypatch):
    (tmp_path / "two_ways.py").write_text(TWO_WAYS)
    monkeypatch.syspath_prepend(tmp_path)
    command = ["inspect", "--model", "two_ways:TwoWays", "--shape"]
    assert main([*command, "3,8,8"]) == 0
    assert "not run by this example, and so left whole: wide.0, wide.2\n" in capsys.readouterr().out
    assert main([*command, "3,16,16"]) == 0
    assert "not run" not in capsys.readouterr().out


def test_of_many_layers_the_first_are_named():
    assert not_run_note([]) == ""
    assert not_run_note(list("abcdefgh")).endswith("left whole: a, b, c, d, e, f, g, h")
    assert not_run_note(list("abcdefghij")).endswith(": a, b, c, d, e, f, g, h and 2 more")
