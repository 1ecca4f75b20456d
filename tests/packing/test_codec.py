"""Tensors in few bytes, and back bit for bit; what does not fit is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from amc.packing.codec import coded, decoded
from amc.utils.bounded_files import DamagedFileError


def sparse(shape, share, levels=None, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=draw)
    values[torch.rand(shape, generator=draw) > share] = 0
    return (values if levels is None else (values * levels).round() / levels).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("levels", [None, 4])
def test_numbers_come_back_bit_for_bit(dtype, share, levels):
    tensor = sparse((40, 7, 3, 3), share, levels, dtype)
    found = coded("w", tensor, 5)
    assert torch.equal(decoded(found.entry, found.content), tensor)
    assert found.entry.bytes == len(found.content)
    assert sum(found.bits.values()) == 8 * len(found.content)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(7),
        torch.zeros(0, 3),
        torch.arange(5),
        torch.tensor([True, False]),
        torch.tensor([1.0, torch.nan]),
        torch.tensor(0.0),
        torch.full((3, 5000), 2.0),
        torch.tensor([1 + 2j]),
    ],
)
def test_other_tensors_come_back(tensor):
    found = coded("w", tensor, 5)
    back = decoded(found.entry, found.content)
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert torch.equal(back.nan_to_num(), tensor.nan_to_num())


def test_the_shortest_coding_is_taken():
    assert coded("w", sparse((64, 64), 0.1, 4), 5).entry.coding == "shared"
    assert coded("w", sparse((64, 64), 0.1), 5).entry.coding == "sparse"
    assert coded("w", sparse((64, 64), 1.0), 5).entry.coding == "plain"
    few = coded("w", sparse((64, 64), 0.1, 4), 5)
    assert len(few.content) < 0.3 * len(coded("w", sparse((64, 64), 0.1), 5).content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": 10**9}, "no more than it has places"),
        ({"symbols": 3}, "must"),
        ({"values": 200}, "must"),
        ({"index_bits": 1}, "must"),
        ({"dtype": "int64"}, "must be of numbers"),
        ({"dtype": "object"}, "number format .* must be known"),
        ({"coding": "sparse"}, "must"),
        ({"coding": "plain"}, "must have"),
        ({"shape": [64, 2]}, "must"),
    ],
)
def test_entries_that_lie_are_refused(changes, message):
    found = coded("w", sparse((64, 64), 0.1, 4), 5)
    entry = copy.copy(found.entry)
    for name, value in changes.items():
        setattr(entry, name, value)
    with pytest.raises(DamagedFileError, match=message):
        decoded(entry, found.content)


def test_bytes_that_lack_or_are_left_over_are_refused():
    found = coded("w", sparse((64, 64), 0.1, 4), 5)
    with pytest.raises(DamagedFileError, match="must"):
        decoded(found.entry, found.content[:-1])
    with pytest.raises(DamagedFileError, match="no more bytes than it needs"):
        decoded(found.entry, found.content + b"\0")
