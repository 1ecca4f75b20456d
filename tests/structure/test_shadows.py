"""Channel units and shadows: labels that travel with the elements."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amc.tracing.shadow import Shadow, merged_along, moved
from amc.tracing.units import NEUTRAL, ChannelUnits


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), max_size=30))
def test_unions_make_connected_components(edges):
    units = ChannelUnits()
    units.new(20)
    for first, second in edges:
        units.union(np.array([first]), np.array([second]))
    classes = [{label} for label in range(21)]
    for first, second in edges:
        joined = classes[first] | classes[second]
        for label in joined:
            classes[label] = joined
    found = units.find(np.arange(21))
    for label in range(21):
        assert {other for other in range(21) if found[other] == found[label]} == classes[label]


@settings(deadline=None)
@given(data=st.data())
def test_pairs_merged_at_once_are_as_if_merged_one_by_one(data):
    labels = st.lists(st.integers(1, 12), max_size=8)
    frozen, marked = data.draw(labels), data.draw(labels)
    steps = data.draw(st.lists(st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13)), max_size=6), max_size=4))
    at_once, one_by_one = ChannelUnits(), ChannelUnits()
    for units in (at_once, one_by_one):
        units.new(12)
        units.new_fixed("fixed")
        units.freeze(frozen, "frozen")
        units.mark(marked, "residual")
    for pairs in steps:
        ordered = sorted({(int(one_by_one.find(first)), int(one_by_one.find(second))) for first, second in pairs})
        at_once.union([first for first, _ in pairs], [second for _, second in pairs])
        for first, second in ordered:
            one_by_one.union(first, second)
    roots = at_once.find(np.arange(14))
    assert roots.tolist() == one_by_one.find(np.arange(14)).tolist()
    # Which reason stays where several meet is not promised.
    assert [at_once.reason(root) is None for root in roots] == [one_by_one.reason(root) is None for root in roots]
    assert [at_once.marked(label, "residual") for label in range(14)] == [
        one_by_one.marked(label, "residual") for label in range(14)
    ]


def test_units_grow_beyond_their_first_size():
    units = ChannelUnits()
    labels = np.concatenate([units.new(700), units.new(5000)])
    assert len(set(labels.tolist())) == 5700
    units.union(labels[0], labels[-1])
    assert units.find(labels[-1]) == units.find(labels[0])


def test_neutral_labels_merge_with_nothing():
    units = ChannelUnits()
    labels = units.new(3)
    units.union(labels, np.zeros(3, dtype=np.int64))
    assert len(set(units.find(labels).tolist())) == 3
    assert units.find([NEUTRAL]).tolist() == [NEUTRAL]
    units.freeze([NEUTRAL], "never")
    assert units.reason(NEUTRAL) is None


def test_what_meets_a_fixed_label_is_frozen_but_not_merged():
    units = ChannelUnits()
    labels, fixed = units.new(2), units.new_fixed("padded")
    units.union(labels, fixed)
    assert len(set(units.find(labels).tolist())) == 2
    assert [units.reason(root) for root in units.find(labels).tolist()] == ["padded", "padded"]


def test_the_first_reason_stays_and_survives_merging():
    units = ChannelUnits()
    first, second = units.new(1), units.new(1)
    units.freeze(second, "one")
    units.freeze(second, "two")
    units.union(first, second)
    assert units.reason(int(units.find(first)[0])) == "one"


def test_notes_survive_merging():
    units = ChannelUnits()
    first, second, third = units.new(1), units.new(1), units.new(1)
    units.mark(second, "residual")
    units.union(first, second)
    assert units.marked(first, "residual")
    assert not units.marked(third, "residual")
    assert not units.marked(first, "normalised")


def shadow_of(channels, axis, shape, units):
    return Shadow.along(units.new(channels), axis, shape)


def test_shadows_store_axes_along_which_labels_repeat_once():
    units = ChannelUnits()
    shadow = shadow_of(6, 1, (2, 6, 4, 4), units)
    assert tuple(shadow.core.shape) == (1, 6, 1, 1)
    assert shadow.varying == (1,)
    assert tuple(shadow.full().shape) == (2, 6, 4, 4)
    assert shadow.vector(0) == 2
    assert shadow.vector(1).tolist() == [1, 2, 3, 4, 5, 6]


@settings(deadline=None)
@given(st.permutations(range(4)))
def test_moving_a_shadow_moves_each_label_with_its_element(order):
    units = ChannelUnits()
    shadow = shadow_of(6, 1, (2, 6, 3, 4), units)
    result = moved(shadow, lambda labels: labels.permute(order).flip(0), units)
    assert torch.equal(result.full(), shadow.full().permute(order).flip(0))
    assert sum(size > 1 for size in result.core.shape) == 1


def test_merging_along_an_axis_couples_what_lies_along_it():
    units = ChannelUnits()
    shadow = Shadow(torch.from_numpy(units.new(6)).reshape(2, 3), (2, 3))
    merged = merged_along(shadow, [0], units)
    assert merged.varying == (1,)
    assert np.array_equal(units.find([1, 2, 3]), units.find([4, 5, 6]))
    assert len(set(units.find([1, 2, 3]).tolist())) == 3
