"""FLOPs leave out some operators; the figures of a run and its table say which."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import amc
from amc.report.tables import networks_table, render, summary_table, uncounted_note


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.wide, self.recurrent = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 11, 1), nn.LSTM(11, 5, batch_first=True)

    def forward(self, x):
        return self.recurrent(self.wide(self.stem(x)).flatten(2).transpose(1, 2))[0][:, -1]


@pytest.fixture(scope="module")
def result():
    return amc.compress(
        Recurrent(),
        None,
        evaluate=lambda model: 50.0,
        example_input=torch.zeros(1, 3, 8, 8),
        agent="uniform",
        episodes=1,
        finetune=lambda model: None,
        device="cpu",
    )


def test_a_run_says_what_its_flops_leave_out(result):
    assert result.summary["not_counted"] == {"lstm": 1}
    assert "not counted in FLOPs: lstm (1 call)" in render(summary_table(result.summary))


def test_nothing_is_said_where_all_counts(result):
    counted = {**result.summary, "not_counted": {}}
    assert "not counted" not in render(summary_table(counted))
    assert "not counted" not in render(networks_table({"dense": ({"flops": 10, "params": 10}, 50.0)}))


def test_calls_are_numbered():
    assert uncounted_note({"gru": 1, "fft_fft2": 3}) == "not counted in FLOPs: gru (1 call), fft_fft2 (3 calls)"
    note = "not counted in FLOPs: gru (2 calls)"
    assert note in render(networks_table({"dense": ({"flops": 10, "params": 10}, 50.0)}, {"gru": 2}))
