"""What is sent to workers arrives as it was, with one buffer for a storage."""

import numpy as np
import pytest
import torch
from torch import nn

from amc.cluster.parcel import pack, unpack


def test_a_network_arrives_with_its_weights_and_layout():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).to(memory_format=torch.channels_last)
    arrived = unpack(pack(network))
    for (name, sent), (other, found) in zip(network.state_dict().items(), arrived.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(sent, found)
        assert sent.stride() == found.stride()
    image = torch.randn(2, 3, 6, 6)
    assert torch.equal(network.eval()(image), arrived.eval()(image))


def test_tensors_that_share_memory_are_sent_once_and_share_it_there():
    images = torch.randn(100, 10)
    tied = nn.Linear(10, 10)
    parcel = pack({"all": images, "few": images[:7], "layers": [tied, tied], "weight": tied.weight})
    assert parcel.nbytes < 4 * (images.numel() + tied.weight.numel() + 10) + 4000
    arrived = unpack(parcel)
    arrived["all"][0, 0] = 5.0
    assert arrived["few"][0, 0] == 5.0
    assert arrived["layers"][0] is arrived["layers"][1]
    assert arrived["weight"] is arrived["layers"][0].weight


def test_what_arrives_is_a_copy_even_of_memory_that_must_not_be_written():
    parcel = pack(torch.zeros(5))
    for buffer in parcel.buffers:
        buffer.flags.writeable = False
    arrived = unpack(parcel)
    arrived += 1
    assert torch.equal(unpack(parcel), torch.zeros(5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int64, torch.float64, torch.uint8])
def test_every_number_format_arrives(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    found = unpack(pack({"tensor": tensor, "empty": torch.empty(0, dtype=dtype), "array": np.arange(3)}))
    assert torch.equal(found["tensor"], tensor)
    assert found["tensor"].dtype == found["empty"].dtype == dtype
    assert found["array"].tolist() == [0, 1, 2]


def test_functions_without_a_name_are_sent():
    factor = 3
    assert unpack(pack(lambda value: factor * value))(5) == 15
