"""K-means on a line, and the training of what it finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from amc.packing.sharing import INITIALISATIONS, Linear, cluster, shared
from amc.training.shared_weights import SharedWeights
from amc.training.terms import Training
from amc.utils.options import create

NAMES = INITIALISATIONS.names()
WORKED = np.array([-1.0, -0.9, 0.1, 0.9, 1.1])
some_values = st.lists(st.floats(-3, 3), min_size=4, max_size=9).map(np.array)


def squares(values, centroids):
    return float(((values[:, None] - centroids[None]) ** 2).min(1).sum())


def least_squares(values, count):
    """The best of all divisions of the sorted values into runs, which the optimum on a line is one of."""
    ordered = np.sort(values)
    best = np.inf
    for cuts in itertools.combinations(range(1, len(ordered)), count - 1):
        runs = np.split(ordered, cuts)
        best = min(best, sum(float(((run - run.mean()) ** 2).sum()) for run in runs))
    return best


def test_two_clusters_by_hand():
    centroids, members = cluster(WORKED, Linear()(WORKED, 2, np.random.default_rng(0)))
    assert centroids == pytest.approx([-0.95, 0.7])
    assert members.tolist() == [0, 0, 1, 1, 1]
    assert squares(WORKED, centroids) == pytest.approx(least_squares(WORKED, 2))


@given(some_values, st.integers(2, 4), st.sampled_from(NAMES))
def test_clusters_are_a_fixed_point_no_better_than_brute_force(values, count, name):
    start = create(INITIALISATIONS, name)(values, count, np.random.default_rng(0))
    centroids, members = cluster(values, start)
    assert squares(values, centroids) <= squares(values, start) + 1e-9
    assert squares(values, centroids) >= least_squares(values, min(count, len(values))) - 1e-9
    for place, centroid in enumerate(centroids):
        assert centroid == pytest.approx(values[members == place].mean(), abs=1e-9)
    assert (np.abs(values - centroids[members]) <= np.abs(values[:, None] - centroids).min(1) + 1e-9).all()


def test_groups_far_apart_are_found_as_by_brute_force():
    draw = np.random.default_rng(3)
    values = np.concatenate([place + 0.1 * draw.standard_normal(4) for place in (-2.0, -0.5, 1.5)])
    for name in ("linear", "density"):
        centroids, _ = cluster(values, create(INITIALISATIONS, name)(values, 3, draw))
        assert squares(values, centroids) == pytest.approx(least_squares(values, 3)), name


@pytest.mark.parametrize("name", NAMES)
def test_every_initialisation_lies_within_the_values_and_is_the_same_every_time(name):
    values = np.random.default_rng(0).standard_normal(500)
    first, second = (create(INITIALISATIONS, name)(values, 16, np.random.default_rng(7)) for _ in range(2))
    assert first.shape == (16,)
    assert (np.diff(first) >= 0).all()
    assert first.min() >= values.min()
    assert first.max() <= values.max()
    assert (first == second).all()
    assert next(entry.summary for entry in INITIALISATIONS.entries() if entry.name == name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_shared_weights_have_few_values_and_the_same_zeros(name, bits):
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    weight[weight.abs() < 0.8] = 0
    found = shared(weight, bits, create(INITIALISATIONS, name), seed=1)
    assert torch.equal(found == 0, weight == 0)
    assert len(found[found != 0].unique()) <= 2**bits
    assert float((found - weight).square().sum()) < float(weight.square().sum())


def test_few_values_stay_as_they_are():
    weight = torch.tensor([[0.0, 1.5], [-2.0, 1.5]])
    assert torch.equal(shared(weight, 1, Linear()), weight)


def test_linear_keeps_the_largest_weights_nearer_than_density():
    """Why the paper takes it: large weights are few, and matter."""
    values = np.random.default_rng(0).standard_normal(5000)
    largest = values.max()
    far = {}
    for name in ("linear", "density"):
        centroids = create(INITIALISATIONS, name)(values, 8, np.random.default_rng(0))
        far[name] = abs(centroids - largest).min()
    assert far["linear"] < far["density"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_centroid_moves_by_the_sum_of_its_weights_gradients(momentum):
    """Gradients .1, .2 and -.3, .4, .5 make .3 and .6 (Han et al. 2016, Eq. 3), also where momentum remembers them."""
    model = nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.95, -0.95, 0.7, 0.7, 0.7, 0.0]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    term = SharedWeights(["weight"])
    term.attach(Training(model, optimizer, 1, 1, 1, torch.zeros(1, 6)))
    centroids, velocity = np.array([-0.95, 0.7]), np.zeros(2)
    for _ in range(3):
        model.weight.grad = torch.tensor([[0.1, 0.2, -0.3, 0.4, 0.5, 9.0]])
        optimizer.step()
        term.after_step(0.1)
        velocity = momentum * velocity + np.array([0.3, 0.6])
        centroids = centroids - 0.1 * velocity
        expected = [centroids[0]] * 2 + [centroids[1]] * 3 + [0.0]
        assert model.weight.detach().flatten().tolist() == pytest.approx(expected, abs=1e-6)
    state = term.state()
    term.restore(state)
    term.detach()
    assert not term.state()["centroids"]
