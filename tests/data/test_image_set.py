"""Images in memory: normalisation, order, augmentation and parts."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import functional as reference

from amc.data import ImageSet
from amc.data.augment import augmentation, crop_and_flip, random_flip, random_shift, small_shift
from amc.errors import DataError, UnknownNameError


def images_of(count=10, size=8, **options):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count) % 3, **options)


def test_normalisation_is_torchvisions():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    split = images_of(mean=mean, std=std)
    expected = reference.normalize(split.images.float() / 255, list(mean), list(std))
    torch.testing.assert_close(split.inputs(), expected)
    assert split.inputs(channels_last=True).is_contiguous(memory_format=torch.channels_last)


def test_float_images_without_statistics_are_left_as_they_are():
    images = torch.randn(4, 1, 2, 2)
    assert torch.equal(ImageSet(images, torch.zeros(4, dtype=torch.int64)).inputs(), images)


def test_batches_for_scoring_come_in_order_and_to_the_last_image():
    split = images_of(10)
    batches = list(split.batches(4))
    assert [len(targets) for _, targets in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([images for images, _ in batches]), split.inputs())
    assert torch.equal(torch.cat([targets for _, targets in batches]), split.targets)


def test_batches_for_training_are_full_shuffled_and_decided_by_the_generator():
    split = ImageSet(torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10))

    def order(seed):
        batches = list(split.batches(4, generator=torch.Generator().manual_seed(seed)))
        assert all(torch.equal(images.flatten().long(), targets) for images, targets in batches)
        return [targets.tolist() for _, targets in batches]

    assert [len(batch) for batch in order(0)] == [4, 4]
    assert order(0) == order(0) != order(1)
    assert len({position for batch in order(0) for position in batch}) == 8


def test_a_split_smaller_than_a_batch_is_one_batch():
    batches = list(images_of(3).batches(128, generator=torch.Generator()))
    assert [len(targets) for _, targets in batches] == [3]


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="4 images, 3 targets"):
        ImageSet(torch.zeros(4, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="mean must have one number for each of the 3 channels, not 2"):
        images_of(mean=(0.5, 0.5))


def test_subset_keeps_the_shares_of_the_classes():
    subset = images_of(30).subset(9, seed=3)
    assert subset.targets.bincount().tolist() == [3, 3, 3]
    assert len(images_of(5).subset(100)) == 5


def test_shifts_move_each_image_by_its_own_offset_and_fill_with_zeros():
    images = torch.zeros(200, 1, 8, 8)
    images[:, 0, 4, 4] = 1
    positions = random_shift(images, 2, torch.Generator().manual_seed(0)).flatten(1).nonzero()[:, 1]
    assert set(positions.tolist()) == {8 * row + column for row in range(2, 7) for column in range(2, 7)}
    assert not random_shift(images, 4, torch.Generator())[:, :, :, 0].sum(dim=(1, 2)).gt(1).any()


def test_flips_mirror_about_half_of_the_images():
    images = torch.arange(4.0).repeat(1000, 1, 4, 1)
    flipped = random_flip(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(-1)).all(dim=(1, 2, 3))
    assert ((flipped == images).all(dim=(1, 2, 3)) ^ mirrored).all()
    assert 450 < int(mirrored.sum()) < 550


@pytest.mark.parametrize(("change", "mirrors"), [(crop_and_flip, True), (small_shift, False)])
def test_only_natural_images_are_mirrored(change, mirrors):
    images = torch.arange(8, dtype=torch.uint8).repeat(64, 1, 8, 1)
    changed = change(images, torch.Generator().manual_seed(1))
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    falls = (changed[:, 0, 4, 4].int() - changed[:, 0, 4, 3].int()) < 0
    assert bool(falls.any()) is mirrors


def test_unknown_augmentation_is_named():
    with pytest.raises(UnknownNameError, match="'shift'"):
        augmentation("shfit")
