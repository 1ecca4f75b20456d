"""Every run says whether the smaller network is faster."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import amc
from amc.pipeline.speed import slower_note


@pytest.mark.parametrize(
    ("ratio", "kind", "words"),
    [
        (0.8, "filter", None),
        (
            1.2,
            "filter",
            r"takes 1.20 times as long \(PyTorch on cpu, batch 8\).*multiples of 8 or 16; --budget.latency",
        ),
        (1.0, "weight", "zeros do not make the dense kernels"),
    ],
)
def test_a_network_that_is_not_faster_is_named_with_what_to_try(ratio, kind, words):
    note = slower_note({"ratio": ratio, "engine": "PyTorch", "device": "cpu", "batch_size": 8}, kind)
    assert note is None if words is None else re.search(words, note)


def test_the_summary_of_a_run_holds_both_latencies():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
    data = (torch.randn(60, 1, 8, 8), torch.arange(60) % 2)
    quick = {"search": amc.SearchConfig(agent="uniform", untrained=True), "finetune": amc.FineTuneConfig(epochs=0)}
    result = amc.compress(net, (data, data), device="cpu", **quick)
    latency = result.summary["latency_ms"]
    assert latency["dense"] > 0
    assert latency["pruned"] > 0
    assert latency["ratio"] > 0
    assert (latency["device"], latency["batch_size"]) == ("cpu", 1)
    is_slower = any("is not faster" in note for note in result.summary["notes"])
    assert is_slower == (latency["ratio"] >= 1.0)
