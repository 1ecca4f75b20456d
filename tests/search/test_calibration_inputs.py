"""Inputs without targets, where evaluation and fine-tuning are the user's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import amc
from amc.errors import DataError


def images(count=120, side=16, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 4, (count,), generator=generator)
    noise = torch.rand(count, channels, side, side, generator=generator)
    return noise + classes.view(-1, 1, 1, 1) / 4, classes


class Tinted(nn.Module):
    """Tells where a picture is bright, from two arguments."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x, gain):
        return {"mask": self.head(self.body(x * gain.view(-1, 1, 1, 1)))}


def trained_on_masks():
    torch.manual_seed(0)
    x, gain = images(96, side=8)[0], torch.rand(96) + 0.5
    x = x + torch.nn.functional.interpolate(torch.randn(96, 1, 2, 2), scale_factor=4)
    wanted = (x.mean(1) > 1).long()
    model = Tinted()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(model(x, gain)["mask"], wanted).backward()
        optimizer.step()

    def right(network):
        with torch.no_grad():
            return 100 * (network.eval()(x, gain)["mask"].argmax(1) == wanted).float().mean().item()

    return model.eval(), (x, gain), right


@pytest.mark.parametrize("form", [tuple, lambda inputs: {"x": inputs[0], "gain": inputs[1]}, "batches"])
def test_inputs_without_targets_serve_for_refit_and_batch_norms(form):
    model, inputs, right = trained_on_masks()
    calibration = list(zip(*(part.split(40) for part in inputs), strict=True)) if form == "batches" else form(inputs)
    own = {"finetune": lambda network: None, "agent": "uniform", "episodes": 1, "device": "cpu"}
    budget, example = amc.Budget(flops=0.3), tuple(part[:1] for part in inputs)
    result = amc.compress(model, amc.OwnTask(right, calibration=calibration), budget, **own)
    without = amc.compress(model, amc.OwnTask(right, example_input=example), budget, **own)
    assert result.summary["accuracy"]["dense"] > 90
    with torch.no_grad():
        dense, refit, cut = (network(*inputs)["mask"] for network in (model, result.model, without.model))
    assert float((refit - dense).square().mean()) < 0.5 * float((cut - dense).square().mean())


def test_calibration_inputs_that_do_not_go_together_are_refused():
    for calibration, message in (
        ((torch.zeros(4, 3, 8, 8), torch.zeros(3)), r"found first axes of \[3, 4\]"),
        ({"x": 3}, "found no tensor in a dict"),
        ([], "at least one batch; there is none"),
        (torch.zeros(0, 3, 8, 8), "must hold at least one; there is none"),
    ):
        with pytest.raises(DataError, match=message):
            amc.compress(Tinted(), amc.OwnTask(lambda network: 1.0, calibration=calibration), device="cpu")
