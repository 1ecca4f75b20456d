from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amc.pruning.regression.elimination import Regression, eliminate
from amc.pruning.tables import GroupTable

RIDGE = 1e-3


def problem(channels=5, p=2, outputs=3, seed=0, intercept=False, blocks=False):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels * p, channels * p, generator=generator, dtype=torch.float64)
    rows = torch.randn(200, channels * p, generator=generator, dtype=torch.float64) @ mixing + 0.7
    weight = torch.randn(channels * p, outputs, generator=generator, dtype=torch.float64)
    gram = rows.T @ rows / len(rows)
    if blocks:
        gram = torch.stack([gram[c * p : (c + 1) * p, c * p : (c + 1) * p] for c in range(channels)])
    return rows, Regression(gram, rows.mean(0), weight, p, intercept)


def direct_refit(rows, regression, kept):
    """Ridge regression toward the dense weights on the kept channels, by the normal equations written out."""
    p = regression.positions
    places = torch.cat([torch.arange(c * p, (c + 1) * p) for c in kept.tolist()])
    target = rows @ regression.weight
    damping = RIDGE * regression.gram.diagonal().mean()
    features = rows[:, places]
    if regression.intercept:
        features = torch.cat([features, torch.ones(len(rows), 1, dtype=rows.dtype)], 1)
    prior = regression.weight[places]
    penalty = torch.full((features.shape[1],), float(damping), dtype=rows.dtype)
    if regression.intercept:
        prior = torch.cat([prior, torch.zeros(1, prior.shape[1], dtype=rows.dtype)])
        penalty[-1] = 0
    gram = features.T @ features / len(rows) + penalty.diag()
    weight = torch.linalg.solve(gram, features.T @ target / len(rows) + penalty[:, None] * prior)
    gone = torch.ones(len(regression.weight), dtype=torch.bool)
    gone[places] = False
    cost = ((features @ weight - target) ** 2).sum() / len(rows)
    cost += (penalty[:, None] * (weight - prior) ** 2).sum() + damping * (regression.weight[gone] ** 2).sum()
    return weight, cost


@pytest.mark.parametrize("intercept", [False, True])
def test_refit_and_error_of_every_width_equal_a_direct_solution(intercept):
    rows, regression = problem(intercept=intercept)
    found = eliminate([regression], widths=range(1, 6), ridge=RIDGE)
    energy = (rows @ regression.weight).square().sum() / len(rows)
    for width in range(1, 6):
        weight, cost = direct_refit(rows, regression, GroupTable(found.order).kept(width))
        if intercept:
            torch.testing.assert_close(found.intercepts[width][0], weight[-1].float(), rtol=1e-4, atol=1e-5)
            weight = weight[:-1]
        torch.testing.assert_close(found.weights[width][0].flatten(0, 1), weight.float(), rtol=1e-4, atol=1e-5)
        assert float(found.errors[width]) == pytest.approx(float(cost / energy), rel=1e-5, abs=1e-9)


def test_a_mean_far_from_zero_takes_no_part_in_a_refit_with_an_intercept():
    rows, regression = problem(intercept=True)
    rows = rows - rows.mean(0)
    centred = replace(regression, gram=rows.T @ rows / len(rows), mean=rows.mean(0))
    small = direct_refit(rows, centred, torch.arange(4))[0][:-1]
    moved = rows + 100
    shifted = replace(regression, gram=moved.T @ moved / len(moved), mean=moved.mean(0))
    found = eliminate([shifted], widths=[4], order=torch.tensor([4, 0, 1, 2, 3]), ridge=RIDGE / 4)
    torch.testing.assert_close(found.weights[4][0].flatten(0, 1), small.float(), rtol=1e-3, atol=1e-3)


def test_first_channel_to_go_is_the_one_that_exhaustive_search_finds():
    for seed in range(5):
        rows, regression = problem(seed=seed)
        found = eliminate([regression], widths=(), ridge=RIDGE)
        costs = [
            float(direct_refit(rows, regression, torch.tensor([c for c in range(5) if c != gone]))[1])
            for gone in range(5)
        ]
        assert int(found.order[0]) == costs.index(min(costs))


def test_a_channel_that_is_a_copy_goes_without_error():
    rows, _ = problem(channels=4, p=1)
    rows = torch.cat([rows, rows[:, 2:3]], 1)
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = eliminate([Regression(rows.T @ rows / 200, rows.mean(0), weight, 1)], widths=[4], ridge=1e-9)
    assert int(found.order[0]) in (2, 4)
    assert float(found.errors[4]) < 1e-6
    survivor = GroupTable(found.order).kept(4).tolist().index(6 - int(found.order[0]))
    torch.testing.assert_close(found.weights[4][0][survivor, 0], (weight[2] + weight[4]).float(), rtol=1e-4, atol=1e-4)


def test_a_constant_channel_is_replaced_by_the_intercept():
    rows, _ = problem(channels=3, p=1)
    rows = torch.cat([rows, torch.full((200, 1), 2.0, dtype=rows.dtype)], 1)
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = eliminate([Regression(rows.T @ rows / 200, rows.mean(0), weight, 1, True)], widths=[3], ridge=1e-9)
    assert int(found.order[0]) == 3
    torch.testing.assert_close(found.intercepts[3][0], (2 * weight[3]).float(), rtol=1e-4, atol=1e-4)


def test_errors_of_several_readers_add():
    (_, first), (_, second) = problem(seed=1), problem(seed=2)
    order = torch.tensor([3, 0, 4, 1, 2])
    both = eliminate([first, second], widths=(), order=order)
    alone = [eliminate([one], widths=(), order=order).errors for one in (first, second)]
    torch.testing.assert_close(both.errors, alone[0] + alone[1])
    assert both.order.tolist() == order.tolist()


def test_scaled_outputs_decide_the_order_and_leave_the_refit_as_it_is():
    rows, regression = problem(channels=2, p=1, outputs=2)
    weight = torch.eye(2, dtype=torch.float64)
    gram = torch.eye(2, dtype=torch.float64)
    for scale, first in (([10.0, 1.0], 1), ([1.0, 10.0], 0)):
        found = eliminate([Regression(gram, rows.mean(0), weight, 1, scale=torch.tensor(scale))], widths=(2,))
        assert int(found.order[0]) == first
        torch.testing.assert_close(found.weights[2][0][:, 0], weight.float())
    order = torch.tensor([0, 1])
    plain = eliminate([regression], widths=(1,), order=order)
    scaled = Regression(regression.gram, regression.mean, regression.weight, 1, scale=torch.tensor([3.0, 0.5]))
    torch.testing.assert_close(eliminate([scaled], widths=(1,), order=order).weights[1][0], plain.weights[1][0])


def test_diagonal_blocks_rank_by_the_energy_that_goes_and_refit_nothing():
    rows, regression = problem(blocks=True, intercept=True)
    found = eliminate([regression], widths=[5, 2])
    contributions = (rows[:, :, None] * regression.weight).reshape(200, 5, 2, 3).sum(2)
    energies = (contributions - contributions.mean(0)).square().mean(0).sum(1)
    assert found.order.tolist() == energies.argsort().tolist()
    assert found.weights[2] == (None,)
    gone = found.order[:3]
    torch.testing.assert_close(found.intercepts[2][0], contributions.mean(0)[gone].sum(0).float(), rtol=1e-4, atol=1e-4)


@given(channels=st.integers(1, 7), p=st.integers(1, 3), seed=st.integers(0, 1000), intercept=st.booleans())
@settings(deadline=None, max_examples=30)
def test_order_is_a_permutation_errors_fall_with_width_and_kept_sets_are_nested(channels, p, seed, intercept):
    _, regression = problem(channels, p, seed=seed, intercept=intercept)
    found = eliminate([regression], widths=range(1, channels + 1))
    assert sorted(found.order.tolist()) == list(range(channels))
    assert len(found.errors) == channels + 1
    assert float(found.errors[channels]) == 0
    assert bool((found.errors.diff() <= 1e-12).all())
    for small, large in itertools.pairwise(range(1, channels + 1)):
        assert set(GroupTable(found.order).kept(small).tolist()) < set(GroupTable(found.order).kept(large).tolist())


def test_a_dead_input_does_not_break_the_solution():
    _, regression = problem(intercept=True)
    dead = Regression(torch.zeros_like(regression.gram), torch.zeros(10), regression.weight, 2, True)
    found = eliminate([dead], widths=range(1, 6))
    assert all(bool(found.weights[width][0].isfinite().all()) for width in range(1, 6))
