"""The images that tell a candidate from the best one come first, and count by their stratum's share of the split."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amc.problem.score import ImageScores, Score, Stage
from amc.training.stages import paired_stage
from amc.training.strata import STRATA, Strata, strata_of

LOSSES = hnp.arrays(np.float64, st.integers(1, 80), elements=st.floats(0, 20))


def images_of(hits, losses=None):
    hits = np.asarray(hits, dtype=np.float64)
    return ImageScores(hits, np.zeros(len(hits)) if losses is None else losses, np.full(len(hits), math.nan))


def estimated(candidate, best, strata, seen):
    """The stage of a candidate after the first images of an order."""
    numbers = strata.order[:seen]
    part = ImageScores(candidate.hits[numbers], candidate.losses[numbers], candidate.agreements[numbers])
    nothing = Score(0.0, 0.0, images=seen)
    return paired_stage(Stage(nothing, nothing, part), best, strata)


@given(losses=LOSSES, kept=st.integers(0, 90))
def test_every_image_is_seen_once_and_the_first_stay_first(losses, kept):
    strata = strata_of(losses, kept)
    assert sorted(strata.order) == list(range(len(losses)))
    assert list(strata.order[:kept]) == list(range(min(kept, len(losses))))


@given(losses=LOSSES)
def test_strata_are_of_equal_size_and_rise_with_the_doubt(losses):
    strata = strata_of(losses, 0)
    assert strata.sizes().sum() == len(losses)
    assert np.ptp(strata.sizes()) <= 1
    for low, high in zip(range(STRATA - 1), range(1, STRATA), strict=True):
        below, above = losses[strata.labels == low], losses[strata.labels == high]
        assert not len(below) or not len(above) or below.max() <= above.min()


def test_images_are_taken_as_fast_as_their_stratum_spreads():
    """Neyman's allocation: the numbers of images seen are as the standard deviations of a hit."""
    chances = np.repeat([0.99, 0.95, 0.9, 0.8, 0.7, 0.5], 1000)
    strata = strata_of(-np.log(chances), 0)
    seen = np.bincount(strata.labels[strata.order[:900]], minlength=STRATA)
    spreads = np.sqrt(chances * (1 - chances))[::1000]
    spreads[0] = 0.1  # the least: sqrt(0.99 * 0.01) is 0.0995
    np.testing.assert_allclose(seen, 900 * spreads / spreads.sum(), atol=1.0)


def test_the_estimate_is_the_mean_over_strata_by_hand():
    """Two strata of three and one images; the best hits and misses alike in each, so that nothing is corrected."""
    strata = Strata(order=np.array([0, 1, 3, 2]), labels=np.array([0, 0, 0, 1]))
    best = images_of([1, 1, 1, 0], losses=np.array([0.1, 0.1, 0.1, 2.0]))
    candidate = images_of([1, 0, 1, 1], losses=np.array([0.3, 0.5, 9.0, 1.0]))
    stage = estimated(candidate, best, strata, 3)
    assert stage.score.accuracy == pytest.approx(100 * (3 / 4 * 0.5 + 1 / 4 * 1))
    assert stage.score.cross_entropy == pytest.approx(3 / 4 * 0.4 + 1 / 4 * 1.0)
    # Squares about the strata's means: 2 * 50^2 and 0; as many are added, which are shared by 1 + 2 degrees of freedom.
    pooled = 4 * 50**2 / 3
    error = math.sqrt((3 / 4) ** 2 * (2 * 50**2 + pooled) / 4 * (1 - 2 / 3))
    assert stage.optimistic.accuracy == pytest.approx(stage.score.accuracy + error)


@settings(deadline=None)
@given(losses=LOSSES, seed=st.integers(0, 9), share=st.floats(0.01, 0.99))
def test_a_candidate_that_does_as_the_best_does_is_estimated_as_the_best(losses, seed, share):
    hits = np.random.default_rng(seed).integers(0, 2, len(losses))
    best, strata, seen = images_of(hits, losses), strata_of(losses, 0), max(1, int(share * len(losses)))
    labels = strata.labels[strata.order[:seen]]
    assume(seen < len(losses) and set(labels) == set(strata.labels))
    assert estimated(best, best, strata, seen).score.accuracy == pytest.approx(100 * hits.mean())


def test_on_average_the_estimate_is_right_and_nearer_than_that_of_images_as_they_come():
    generator = np.random.default_rng(0)
    chance = generator.beta(0.8, 0.16, 600)
    best = images_of(generator.random(600) < chance, -np.log(np.clip(chance, 1e-6, 1)))
    errors = {"strata": [], "as they come": []}
    for _ in range(400):
        order = generator.permutation(600)
        shuffled = ImageScores(best.hits[order], best.losses[order], best.agreements[order])
        hits = np.where(generator.random(600) < 0.8, shuffled.hits, generator.random(600) < chance[order])
        candidate = images_of(hits, shuffled.losses)
        for name, strata in (
            ("strata", strata_of(shuffled.losses, 20)),
            ("as they come", Strata(np.arange(600), np.zeros(600, dtype=np.int64))),
        ):
            estimate = estimated(candidate, shuffled, strata, 120).score.accuracy
            errors[name].append(estimate - 100 * hits.mean())
    assert abs(np.mean(errors["strata"])) < 3 * np.std(errors["strata"]) / 20
    assert np.std(errors["strata"]) < 0.85 * np.std(errors["as they come"])


def test_where_no_image_was_seen_a_candidate_is_taken_to_differ_from_the_best_as_elsewhere():
    """The best hits half of each stratum; the candidate lacks a quarter in the two that were seen."""
    strata = Strata(order=np.arange(12), labels=np.repeat([0, 1, 2], 4))
    best = images_of([1, 1, 0, 0] * 3, losses=np.zeros(12))
    candidate = images_of([1, 0, 0, 0] * 3, losses=np.zeros(12))
    stage = estimated(candidate, best, strata, 8)
    assert stage.score.accuracy == pytest.approx(25)
    squares = 4 * 50**2  # with a slope of a half, two residuals of a stratum are 50 from their mean
    assert stage.optimistic.accuracy == pytest.approx(25 + math.sqrt((squares + 2 * 50**2) / (6 + 2)) / 3)


@pytest.mark.parametrize("seen", [1, 3, 5, 8, 12])
def test_a_candidate_much_like_the_best_is_seldom_given_up_after_few_images(seen):
    """Few images show the doubtful strata alone, where both are worse than on the whole split."""
    generator = np.random.default_rng(0)
    chance = generator.beta(2.0, 0.25, 600)
    hits, losses = generator.random(600) < chance, -np.log(np.clip(chance, 1e-6, 1))
    other = np.where(generator.random(600) < 0.02, generator.random(600) < chance, hits)
    better = 0
    for _ in range(300):
        order = generator.permutation(600)
        best = images_of(hits[order], losses[order])
        noise = 0.02 * generator.standard_normal(600)
        candidate = images_of(other[order], np.maximum(0, best.losses + noise * best.losses))
        bound = estimated(candidate, best, strata_of(best.losses, 0), seen).optimistic
        better += np.array(
            [bound.accuracy >= 100 * candidate.hits.mean(), bound.cross_entropy <= candidate.losses.mean()]
        )
    assert np.all(better >= 0.75 * 300)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_losses_of_the_best_that_are_no_numbers_leave_the_estimates_of_others_alone(wrong):
    losses = np.linspace(0.1, 3.0, 30)
    best = images_of(np.arange(30) % 2, losses=np.where(np.arange(30) == 7, wrong, losses))
    strata = strata_of(best.losses, 0)
    assert sorted(strata.order) == list(range(30))
    stage = estimated(images_of(np.arange(30) % 2, losses), best, strata, 20)
    assert stage.score.cross_entropy == pytest.approx(losses.mean(), abs=0.2)
    assert 0 < stage.optimistic.cross_entropy < stage.score.cross_entropy


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_candidate_whose_loss_is_no_number_is_not_taken_for_a_perfect_one(wrong):
    losses = np.linspace(0.1, 3.0, 30)
    best, candidate = images_of(np.ones(30), losses), images_of(np.ones(30), np.full(30, wrong))
    stage = estimated(candidate, best, strata_of(losses, 0), 12)
    np.testing.assert_equal((stage.score.cross_entropy, stage.optimistic.cross_entropy), (wrong, wrong))
    assert stage.score.accuracy == 100


def test_one_image_says_nothing_of_how_the_loss_spreads():
    strata = strata_of(np.array([0.1, 0.2, 0.3]), 0)
    best = images_of([1, 1, 1], losses=np.array([0.1, 0.2, 0.3]))
    stage = estimated(images_of([1, 1, 1], losses=np.array([2.0, 2.0, 2.0])), best, strata, 1)
    assert stage.score.cross_entropy == pytest.approx(2.0, abs=0.3)
    assert stage.optimistic.cross_entropy == 0
