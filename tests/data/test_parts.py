"""Several processes read one epoch: the parts of a batch make up the batch."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from amc.data import as_source
from amc.data.image_set import ImageSet

IMAGES, TARGETS = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(50)


def loader(**options):
    return as_source(DataLoader(TensorDataset(IMAGES, TARGETS), batch_size=12, **options))


SOURCES = {
    "in memory": ImageSet(IMAGES, TARGETS, (0.5,), (0.2,), augment="crop_flip"),
    "data set": loader(shuffle=True),
    "drawn by weight": loader(sampler=WeightedRandomSampler(TARGETS.double() + 1, 40)),
}


def epoch(source, size):
    return list(source.batches(size, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("size", "parts"), [(12, 2), (12, 3), (100, 2)])
def test_parts_make_the_whole(name, size, parts):
    source = SOURCES[name]
    whole = epoch(source, size)
    read = [epoch(source.shard(rank, parts), size) for rank in range(parts)]
    assert [len(part) for part in read] == [len(whole)] * parts
    for number, (images, targets) in enumerate(whole):
        assert len({len(part[number][1]) for part in read}) == 1
        assert torch.equal(torch.cat([part[number][0] for part in read]), images)
        assert torch.equal(torch.cat([part[number][1] for part in read]), targets)


@pytest.mark.parametrize("name", SOURCES)
def test_a_part_is_tested_on_as_a_whole(name):
    source = SOURCES[name]
    found, expected = list(source.shard(1, 2).batches(10)), list(source.batches(10))
    assert [len(targets) for _, targets in found] == [len(targets) for _, targets in expected]
