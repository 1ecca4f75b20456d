"""FLOPs leave out some operators, and count some by a rule of our own; the figures of a run and its table say which."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import amc
from amc.report.tables import networks_table, render, summary_table, uncounted_note


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 11, 1)
        self.recurrent, self.head = nn.LSTM(11, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        x = self.wide(self.stem(torch.fft.irfft2(torch.fft.rfft2(x))))
        return self.head(self.recurrent(x.flatten(2).transpose(1, 2))[0][:, -1])


@pytest.fixture(scope="module")
def result():
    return amc.compress(
        Recurrent(),
        amc.OwnTask(lambda model: 50.0, example_input=torch.zeros(1, 3, 8, 8)),
        agent="uniform",
        episodes=1,
        finetune=lambda model: None,
        device="cpu",
    )


def test_a_run_says_what_its_flops_leave_out(result):
    assert result.summary["not_counted"] == {"fft_irfft2": 1, "fft_rfft2": 1}
    assert "not counted in FLOPs: fft_irfft2 (1 call), fft_rfft2 (1 call)" in render(summary_table(result.summary))


def test_a_run_says_what_is_counted_by_a_rule_of_our_own(result):
    assert result.summary["counted_by_own_rule"] == {"lstm": 1}
    table = render(summary_table(result.summary), 120)
    assert "FLOPs by a rule of amc's own, as fvcore counts none: lstm (1 call)" in table


def test_the_budget_bounds_recurrent_layers_too(result):
    costs = result.summary["costs"]["flops"]
    recurrent = 64 * 4 * 5 * (11 + 5)
    assert costs["dense"] == 64 * (3 * 8 + 8 * 11) + recurrent + 5 * 2
    assert costs["pruned"] <= costs["dense"] // 2


def test_nothing_is_said_where_all_counts(result):
    counted = {**result.summary, "not_counted": {}, "counted_by_own_rule": {}}
    assert "not counted" not in render(summary_table(counted))
    assert "rule of amc" not in render(summary_table(counted))
    assert "not counted" not in render(networks_table({"dense": ({"flops": 10, "params": 10}, 50.0)}))


def test_calls_are_numbered():
    assert uncounted_note({"fft_fft": 1, "fft_fft2": 3}) == "not counted in FLOPs: fft_fft (1 call), fft_fft2 (3 calls)"
    table = render(networks_table({"dense": ({"flops": 10, "params": 10}, 50.0)}, {"fft_fft": 2}, {"gru": 3}))
    assert "not counted in FLOPs: fft_fft (2 calls)" in table
    assert "gru (3 calls)" in table
