"""Sparse networks are small files that come back bit for bit."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import amc
from amc.errors import CheckpointError
from amc.models.weights import load_weights
from amc.storage.architecture import describe
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.utils.sparse_tensors import is_packed, packed, unpacked


def sparse(shape, density, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator)
    return drawn.masked_fill(torch.rand(shape, generator=generator) >= density, 0.0).to(dtype)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.floats(0, 1),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_every_tensor_comes_back_bit_for_bit(shape, density, dtype):
    tensors = {"a.weight": sparse(shape, density, dtype=dtype), "b": torch.zeros(3), "c": torch.tensor(5)}
    found = unpacked(packed(tensors))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_a_dense_tensor_stays_as_it_is_and_a_sparse_one_takes_its_values_and_a_bit_an_element():
    dense, thin = torch.randn(40, 40), sparse((400, 40), 0.1)
    found = packed({"dense": dense, "thin": thin})
    assert found["dense"] is dense
    assert "thin" not in found
    assert found["sparse.bits"].nbytes == 16_000 // 8
    assert found["sparse.values.float32"].nbytes == 4 * int(thin.count_nonzero())
    assert not is_packed(packed({"dense": dense}))


class Net(nn.Module):
    """A network with a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight


def test_a_network_at_a_tenth_of_its_weights_takes_under_15_percent_of_the_file_and_loads(tmp_path):
    dense, model = tmp_path / "dense.safetensors", amc.create_model("resnet20")
    save_file(model.state_dict(), dense)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = sparse(parameter.shape, 0.1)
    save_network(tmp_path, model, describe(model, None, {}, ModelSource("name", "resnet20")))
    assert (tmp_path / "model.safetensors").stat().st_size < 0.15 * dense.stat().st_size
    loaded = amc.load(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    other = amc.create_model("resnet20", seed=3)
    load_weights(other, tmp_path / "model.safetensors")
    assert torch.equal(other.conv1.weight, model.conv1.weight)


def test_shared_sparse_tensors_are_stored_once_and_come_back_shared(tmp_path):
    model = Net()
    model.first.weight.data = sparse((64, 64), 0.1)
    save_network(tmp_path, model, describe(model, None, {}, ModelSource("class", "nowhere:Net")))
    stored = load_file(tmp_path / "model.safetensors")
    assert len(stored["sparse.values.float32"]) == int(model.first.weight.count_nonzero())
    loaded = amc.load(tmp_path, model=Net())
    assert torch.equal(loaded.first.weight, model.first.weight)
    assert loaded.first.weight is loaded.second.weight


def index_of(*entries):
    return torch.tensor(list(json.dumps(entries).encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparse.bits": None}, "must have sparse.bits"),
        ({"sparse.bits": torch.zeros(50)}, "must have sparse.bits, bytes in a row"),
        ({"sparse.bits": torch.zeros(3, dtype=torch.uint8)}, "does not hold of 'w'"),
        ({"sparse.bits": torch.full((50,), 255, dtype=torch.uint8)}, "does not hold of 'w'"),
        ({"sparse.bits": torch.zeros(50, dtype=torch.uint8)}, "does not hold of 'the last'"),
        ({"sparse.values.float32": None}, "does not hold of 'w'"),
        ({"sparse.values.float32": torch.zeros(5)}, "does not hold of 'w'"),
        ({"sparse.index": index_of(["w", "float32", 1 << 40, 1 << 40])}, "does not hold of 'w'"),
        ({"sparse.index": index_of(["w", "float32", -20, -20])}, "must list names, number formats and sizes"),
        ({"sparse.index": index_of(["w"])}, "must be readable JSON"),
        ({"sparse.index": torch.tensor([255], dtype=torch.uint8)}, "must be readable JSON"),
    ],
)
def test_damaged_parts_are_refused(change, message):
    stored = packed({"w": sparse((20, 20), 0.1)}) | change
    with pytest.raises(CheckpointError, match=message):
        unpacked({name: tensor for name, tensor in stored.items() if tensor is not None})
