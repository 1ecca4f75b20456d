"""Inputs made from an example, and the comparison of outputs."""

from __future__ import annotations

import pytest
import torch

from amc.errors import ConfigurationError, ExportError
from amc.export.verify import relative_difference
from amc.runtime.inputs import batch_length, fresh_input, with_batch

EXAMPLE = {
    "image": torch.full((1, 3), 5.0),
    "tokens": torch.tensor([[2, 4, 3]]),
    "mask": torch.tensor([[True, False]]),
    "table": torch.zeros(7, 2),
    "scale": torch.tensor(3.0),
    "flag": None,
}


def test_only_the_batch_axis_grows():
    grown = with_batch(EXAMPLE, 4)
    shapes = {name: tuple(value.shape) for name, value in grown.items() if value is not None}
    assert shapes == {"image": (4, 3), "tokens": (4, 3), "mask": (4, 2), "table": (7, 2), "scale": ()}
    assert torch.equal(with_batch((torch.arange(3),), 5)[0], torch.tensor([0, 1, 2, 0, 1]))


def test_fresh_values_are_like_the_example():
    first, second = (fresh_input(EXAMPLE, 200, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert not torch.equal(first["image"], second["image"])
    assert first["image"].mean().item() == pytest.approx(5.0, abs=0.3)
    assert set(first["tokens"].flatten().tolist()) == {2, 3, 4}
    assert first["mask"].unique(dim=0).tolist() == [[True, False]]
    assert {name: value.dtype for name, value in first.items() if value is not None} == {
        name: value.dtype for name, value in EXAMPLE.items() if value is not None
    }


def test_an_example_without_a_batch_axis_is_refused():
    with pytest.raises(ConfigurationError, match="batch axis"):
        batch_length((torch.tensor(1.0), 3))


def test_differences_are_shares_of_the_largest_output():
    expected = [torch.tensor([1.0, -200.0]), torch.tensor([4.0])]
    assert relative_difference(expected, [torch.tensor([2.0, -200.0]), torch.tensor([4.0])]) == pytest.approx(1 / 200)
    assert relative_difference(expected, [torch.tensor([1.0, -200.0]), torch.tensor([5.0])]) == pytest.approx(1 / 4)
    assert relative_difference(expected, expected) == 0.0
    assert relative_difference([torch.zeros(2)], [torch.tensor([0.0, 0.5])]) == 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_differs(value):
    assert relative_difference([torch.ones(2)], [torch.tensor([1.0, value])]) == float("inf")


@pytest.mark.parametrize("outputs", [[], [torch.zeros(2), torch.zeros(2)], [torch.zeros(1, 2)]])
def test_other_shapes_are_refused(outputs):
    with pytest.raises(ExportError, match=r"outputs of shapes \[\(2,\)\]"):
        relative_difference([torch.zeros(2)], outputs)
