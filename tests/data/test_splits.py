"""The four roles of data."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amc.data import ImageSet, split_roles
from amc.data.splits import default_search_images
from amc.data.stratified import stratified_order
from amc.errors import DataError


def numbered(count, classes=4, start=0):
    """Images whose only pixel tells which image it is."""
    pixels = torch.arange(start, start + count, dtype=torch.float32).view(-1, 1, 1, 1)
    return ImageSet(pixels, torch.arange(count) % classes)


def identities(split):
    return set(split.images.flatten().tolist())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=120), st.integers(0, 1000))
def test_every_beginning_of_a_stratified_order_has_the_overall_shares(labels, seed):
    targets = torch.tensor(labels)
    order = stratified_order(targets, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    classes = len(set(labels))
    for length in range(1, len(labels) + 1):
        counts = targets[order[:length]].bincount(minlength=6)
        for label in set(labels):
            share = labels.count(label) / len(labels)
            assert share * (length - classes) - 1 <= counts[label] <= share * (length + classes) + 1


@settings(max_examples=25, deadline=None)
@given(st.integers(10, 200), st.integers(1, 9), st.integers(1, 300), st.integers(0, 99))
def test_roles_are_disjoint_and_complete(count, held_out, calibration, seed):
    train, test = numbered(count), numbered(5, start=count)
    roles = split_roles(train, test, search_images=held_out, calibration_images=calibration, seed=seed)
    assert len(roles.search) == held_out
    assert len(roles.calibration) == min(calibration, count - held_out)
    assert identities(roles.train) | identities(roles.search) == identities(train)
    assert not identities(roles.train) & identities(roles.search)
    assert identities(roles.calibration) <= identities(roles.train)
    assert roles.test is test


def test_seed_decides_what_is_held_out():
    first, again, other = (identities(split_roles(numbered(100), numbered(5), seed=s).search) for s in (1, 1, 2))
    assert first == again != other


def test_search_split_is_stratified():
    roles = split_roles(numbered(400), numbered(4), search_images=100)
    assert roles.search.targets.bincount().tolist() == [25] * 4


def test_by_default_a_fifth_and_at_most_5000_are_held_out():
    assert [default_search_images(n) for n in (10, 1438, 50_000)] == [2, 287, 5000]


@pytest.mark.parametrize("held_out", [0, 20, 21])
def test_a_search_split_that_leaves_nothing_is_refused(held_out):
    with pytest.raises(DataError, match=f"takes {held_out} of the 20 training images"):
        split_roles(numbered(20), numbered(5), search_images=held_out)


def test_classes_of_a_single_image_are_scored_and_never_trained():
    one_each, two_each = (split_roles(numbered(40, classes), numbered(4)) for classes in (40, 4))
    assert one_each.untrained_classes() == sorted(one_each.search.targets.tolist())
    assert len(one_each.untrained_classes()) == 8
    assert two_each.untrained_classes() == []
