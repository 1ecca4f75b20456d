from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from amc.pruning.regression.patches import conv_groups, input_rows, output_rows, sample_rows
from amc.pruning.regression.row_moments import outer

LAYERS = {
    "plain": (nn.Conv2d(4, 6, 3), (5, 4, 9, 8)),
    "stride and padding": (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2)), (5, 4, 9, 8)),
    "dilation": (nn.Conv2d(4, 6, 3, dilation=2, padding=1), (5, 4, 9, 8)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (5, 4, 9, 8)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), (5, 4, 9, 8)),
    "same": (nn.Conv2d(4, 6, (2, 4), padding="same"), (5, 4, 9, 8)),
    "valid": (nn.Conv2d(4, 6, 2, padding="valid"), (5, 4, 9, 8)),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (5, 4, 9, 8)),
    "one dimension": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (5, 4, 11)),
    "linear": (nn.Linear(4, 6), (5, 4)),
    "sequence": (nn.Linear(4, 6), (5, 7, 4)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_weights_are_the_layers_output(name, sampled):
    layer, shape = LAYERS[name]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = layer(inputs)
    total = output.numel() // layer.weight.shape[0]
    rows = sample_rows(total, total // 3, torch.Generator().manual_seed(1)) if sampled else None
    features = input_rows(inputs, tuple(output.shape[2:]), layer, rows)
    weights = layer.weight.flatten(1).reshape(conv_groups(layer), -1, features.shape[2])
    computed = (features @ weights.transpose(1, 2)).transpose(0, 1).flatten(1) + layer.bias
    torch.testing.assert_close(computed, output_rows(output, layer, rows))


@given(total=st.integers(1, 5000), limit=st.integers(1, 300), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=50)
def test_sampled_rows_are_distinct_rising_and_bounded(total, limit, seed):
    rows = sample_rows(total, limit, torch.Generator().manual_seed(seed))
    if rows is None:
        assert total <= limit
        return
    assert 1 <= len(rows) <= limit
    assert bool((rows.diff() > 0).all())
    assert 0 <= int(rows.min()) <= int(rows.max()) < total


@pytest.mark.parametrize("features", [1, 96, 191, 192, 193, 288, 577, 700])
def test_products_of_rows_with_themselves_are_those_of_the_definition(features):
    rows = torch.randn(2, 40, features, generator=torch.Generator().manual_seed(0))

    products = outer(rows, rows)

    wanted = torch.einsum("gri,grj->gij", rows.double(), rows.double())
    torch.testing.assert_close(products.double(), wanted, rtol=1e-4, atol=1e-4)
