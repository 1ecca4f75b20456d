"""Sparsity by neuron and pruning stability, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.cli.main import main
from amc.models import create_model
from amc.pipeline.stability import pruning_stability
from amc.pruning.neuron_sparsity import NeuronSparsity, neuron_sparsity
from amc.storage.save import save_weights


def layer_of(layer, weight):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight).reshape(layer.weight.shape))
    return neuron_sparsity(nn.Sequential(layer))


def test_a_linear_layer_by_hand():
    weight = [[1.0, 0, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0]]
    assert layer_of(nn.Linear(4, 3), weight) == [NeuronSparsity("0", 12, 3, 3, 1, 4, 2, 0, 2)]


def test_a_grouped_convolution_has_the_inputs_of_all_its_groups():
    weight = [[[1.0, 2.0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [5, 0]], [[0, 0], [6, 7]]]
    found = layer_of(nn.Conv1d(4, 4, 2, groups=2), weight)[0]
    assert (found.outputs, found.empty_outputs, found.inputs, found.empty_inputs) == (4, 1, 4, 2)
    assert (found.kept, found.fewest, found.most) == (5, 0, 2)


def test_a_transposed_convolution_has_its_inputs_first():
    found = layer_of(nn.ConvTranspose1d(2, 3, 1), [[1.0, 0, 2], [0, 0, 0]])[0]
    assert (found.outputs, found.empty_outputs, found.inputs, found.empty_inputs) == (3, 1, 2, 1)


def test_layers_without_zeros_are_left_out():
    assert neuron_sparsity(nn.Sequential(nn.Linear(3, 3))) == []


@pytest.mark.parametrize(("before", "after", "share"), [(90.0, 81.0, 90.0), (50.0, 55.0, 110.0), (0.0, 3.0, None)])
def test_pruning_stability(before, after, share):
    """From 90 to 81 percent nine tenths are left (arXiv:1906.03728)."""
    assert pruning_stability(before, after) == (None if share is None else pytest.approx(share))


def test_inspect_shows_the_neurons_of_sparse_weights(tmp_path, capsys):
    model = create_model("digits_lenet", seed=0)
    with torch.no_grad():
        model.fc2.weight[:7] = 0
    save_weights(tmp_path / "w.safetensors", model)
    assert main(["inspect", "--model", "digits_lenet", "--weights", str(tmp_path / "w.safetensors")]) == 0
    assert "7 of 100" in capsys.readouterr().out
