"""Weights that a network computes from parameters: which of them can lose single weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import amc
from amc.costs.budget import Budget
from amc.problem.weight_problem import weight_problem


class Computed(nn.Module):
    """A layer whose weight `compute` makes from a parameter, between two plain ones."""

    def __init__(self, compute: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.compute = compute
        self.first, self.last = nn.Linear(6, 6), nn.Linear(8, 3)
        self.w, self.other = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.zeros(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.linear(self.first(x), self.compute(self.w, self.other)).relu())


def standardised(w: Tensor, _: Tensor) -> Tensor:
    return (w - w.mean(1, keepdim=True)) / (w.std(1, keepdim=True) + 1e-5)


KEEP: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "itself": lambda w, _: w,
    "tanh": lambda w, _: w.tanh(),
    "gated": lambda w, other: w * other[:, :1].sigmoid(),
    "clamped norm": lambda w, _: F.normalize(w, dim=1),
    "quantised": lambda w, _: (w / w.abs().max() * 127).round() / 127 * w.abs().max(),
    "masked": lambda w, _: w.masked_fill(w < 0, 0.0),
}
LOSE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "exp": lambda w, _: w.exp(),
    "shifted": lambda w, _: w - 0.1,
    "standardised": standardised,
    "sum with zeros that training moves": lambda w, other: w + other[:1, :6],
    "low-rank addition": lambda w, other: w + other[:, :2] @ other[:2, :6],
    "norm of nothing": lambda w, _: w / w.norm(dim=1, keepdim=True),
    "filled": lambda w, _: w.masked_fill(w <= 0, 1.0),
    "reversed": lambda w, _: w.flip(1) * 2,
}


def prunable(model: nn.Module, features: int = 6) -> list[str]:
    structure = amc.trace_structure(model, torch.randn(1, features))
    return [layer.weight for layer in weight_problem(structure, Budget(params=0.9)).layers]


@pytest.mark.parametrize("name", KEEP)
def test_zeros_that_reach_the_weight_are_pruned(name: str) -> None:
    assert "w" in prunable(Computed(KEEP[name]))


@pytest.mark.parametrize("name", LOSE)
def test_a_weight_without_the_zeros_of_its_parameter_stays_dense(name: str) -> None:
    assert prunable(Computed(LOSE[name])) == ["first.weight", "last.weight"]


def test_a_weight_that_one_of_several_calls_computes_otherwise_stays_dense() -> None:
    class Twice(Computed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.last(F.linear(x, self.w.exp()))

    assert prunable(Twice(KEEP["itself"])) == ["first.weight", "last.weight"]


@pytest.mark.parametrize(
    ("parametrization", "loses"),
    [
        (parametrizations.spectral_norm, True),
        (parametrizations.weight_norm, False),
        (parametrizations.orthogonal, False),
    ],
)
def test_parametrizations_of_pytorch(parametrization: Callable[[nn.Module], nn.Module], loses: bool) -> None:
    model = Computed(KEEP["itself"])
    parametrization(model.first)
    assert any(name.startswith("first.") for name in prunable(model)) is loses
    parametrize.remove_parametrizations(model.first, "weight")
    assert "first.weight" in prunable(model)


def test_convolutions_with_standardised_filters_stay_dense() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            mean, deviation = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
            return F.conv2d(x, (self.weight - mean) / (deviation + 1e-5), self.bias)

    model = nn.Sequential(Standardised(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 4))
    structure = amc.trace_structure(model, torch.randn(1, 3, 6, 6))
    assert [layer.name for layer in weight_problem(structure, Budget(params=0.9)).layers] == ["2", "4"]
    assert len(structure.prunable) == 2  # filters can go all the same


def test_pruned_weights_of_computed_layers_cost_what_is_claimed() -> None:
    """The zeros that the FLOPs leave out are zeros of what the network multiplies by."""
    model = Computed(KEEP["tanh"])
    inputs = torch.randn(120, 6)
    data = ((inputs, inputs[:, :3].argmax(1)), (inputs[:40], inputs[:40, :3].argmax(1)))
    result = amc.compress(
        model,
        data,
        amc.Budget(flops=0.5),
        agent="uniform",
        pruning=amc.PruningConfig(family="weight"),
        train=amc.TrainConfig(epochs=10),
        finetune=amc.FineTuneConfig(epochs=0),
        progress=False,
    )
    multiplied = [result.model.first.weight, result.model.w.tanh(), result.model.last.weight]
    assert sum(int(weight.count_nonzero()) for weight in multiplied) <= 0.5 * (36 + 48 + 24)
