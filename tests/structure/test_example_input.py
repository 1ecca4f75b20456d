"""Inputs described as JSON and made again."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import tree_flatten

from amc.errors import ConfigurationError
from amc.storage.example_input import describe_input, random_input

tensors = st.builds(
    lambda shape, dtype, low: (torch.rand(shape) * 9 + low).to(dtype),
    st.lists(st.integers(1, 4), max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.bool]),
    st.integers(0, 40),
)
inputs = st.recursive(
    tensors | st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


@given(inputs)
def test_an_input_made_again_has_the_same_form(example):
    record = describe_input(example)
    again = random_input(json.loads(json.dumps(record)))
    assert describe_input(again) == record
    assert tree_flatten(again)[1] == tree_flatten(example)[1]


def test_token_numbers_stay_in_range():
    record = describe_input({"tokens": torch.tensor([[3, 9, 5, 7]])})
    assert record == {"mapping": {"tokens": {"shape": [1, 4], "dtype": "int64", "range": [3, 9]}}}
    tokens = random_input(record)["tokens"]
    assert (int(tokens.min()), int(tokens.max())) == (3, 9)


def test_values_depend_on_the_seed_alone():
    record = describe_input(torch.zeros(1, 50))
    assert torch.equal(random_input(record, seed=3), random_input(record, seed=3))
    assert not torch.equal(random_input(record, seed=3), random_input(record, seed=4))


@pytest.mark.parametrize("example", [object(), (torch.zeros(1), object()), {"x": object()}])
def test_what_json_cannot_hold_is_not_described(example):
    assert describe_input(example) is None


@pytest.mark.parametrize(
    "record", [{}, {"shape": [1]}, {"shape": "x", "dtype": "float32"}, {"shape": [1], "dtype": "no"}]
)
def test_malformed_records_are_refused(record):
    with pytest.raises(ConfigurationError, match="shape and a dtype"):
        random_input(record)
