"""Images in memory: normalisation, order, augmentation and parts."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import functional as reference

from amc.data import ImageSet
from amc.data.augment import AUGMENTATIONS, random_flip, random_shift
from amc.errors import ConfigurationError, DataError, UnknownNameError
from amc.utils.options import create


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


@pytest.mark.parametrize(("change", "mirrors"), [("crop_flip", True), ("shift", False)])
def test_only_natural_images_are_mirrored(change, mirrors):
    images = torch.arange(8, dtype=torch.uint8).repeat(64, 1, 8, 1)
    changed = create(AUGMENTATIONS, change)(images, torch.Generator().manual_seed(1))
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    falls = (changed[:, 0, 4, 4].int() - changed[:, 0, 4, 3].int()) < 0
    assert bool(falls.any()) is mirrors


def test_unknown_augmentation_is_named():
    with pytest.raises(UnknownNameError, match="'shift'"):
        create(AUGMENTATIONS, "shfit")


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_every_augmentation_keeps_shape_and_format_and_depends_on_the_seed_alone(name):
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = (create(AUGMENTATIONS, name)(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert (first.shape, first.dtype) == (images.shape, images.dtype)
    assert torch.equal(first, second)


def test_the_reach_of_a_shift_is_an_option():
    images = torch.ones(200, 1, 16, 16)
    still = create(AUGMENTATIONS, "shift:reach=0.25")(images, torch.Generator().manual_seed(1))
    assert int((still == 0).all(dim=(1, 3)).sum(dim=1).max()) == 4  # rows that were shifted in
    with pytest.raises(ConfigurationError, match="a share of the width, 0 to 1, not 2"):
        create(AUGMENTATIONS, "shift:reach=2")
