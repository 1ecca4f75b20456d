from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amc.costs import Budget
from envs.observation import FEATURES, ObservationEncoder


def by_name(observation):
    return dict(zip((feature.name for feature in FEATURES), observation.tolist(), strict=True))


def test_the_features_are_those_of_the_paper_in_its_order():
    names = ["t", "n", "c", "h", "w", "stride", "k", "flops", "reduced", "rest", "last_action"]
    assert [feature.name for feature in FEATURES] == names


def test_the_documentation_has_the_features_as_they_are():
    page = (Path(__file__).parents[2] / "docs" / "own_networks.md").read_text()
    rows = [f"| `{feature.name}` | {feature.unit} | {feature.scale} |" for feature in FEATURES]
    assert "\n".join(rows) in page


def test_what_is_fixed_is_scaled_by_the_largest_of_all_layers(make_problem):
    problem = make_problem()
    walk = problem.walk()
    walk.choose(8)
    seen = by_name(ObservationEncoder(problem).encode(walk, 0.0))
    expected = {"t": 0.5, "n": 1.0, "c": 0.8, "h": 1.0, "w": 1.0, "stride": 1.0, "k": 1 / 3, "flops": 0.8}
    assert {name: seen[name] for name in expected} == pytest.approx(expected)


def test_reduced_and_rest_are_exact_shares_of_the_budget_metric(make_problem):
    """Cost 4a + ab + 2bc, 212 when dense; worked out by hand for the widths 4, 3, 5."""
    problem = make_problem()
    encoder, walk = ObservationEncoder(problem), problem.walk()
    seen = [by_name(encoder.encode(walk, 0.0))]
    for width in (4, 3, 5):
        walk.choose(width)
        seen.append(by_name(encoder.encode(walk, 0.25)))
    # Open: all dense; then a = 4 (16 + 40 + 100); then b = 3 (16 + 12 + 30); c is dense.
    assert [row["reduced"] for row in seen] == pytest.approx([0, 56 / 212, 154 / 212, 154 / 212])
    # From a = 8: 212 - (32 + 8 + 2). From a = 4, b = 10: 156 - (16 + 40 + 20). Nothing comes after c.
    assert [row["rest"] for row in seen] == pytest.approx([170 / 212, 80 / 212, 0, 0])
    assert [row["last_action"] for row in seen] == [0, 0.25, 0.25, 0.25]


def test_a_budget_in_parameters_is_observed_in_parameters(make_problem):
    """Parameters a + 2b + 3c: 43 when dense."""
    problem = make_problem(Budget(params=0.5))
    encoder, walk = ObservationEncoder(problem), problem.walk()
    first = by_name(encoder.encode(walk, 0.0))
    walk.choose(2)
    second = by_name(encoder.encode(walk, 0.75))
    assert (first["reduced"], first["rest"]) == pytest.approx((0, (18 + 12) / 43))
    assert (second["reduced"], second["rest"]) == pytest.approx((6 / 43, 12 / 43))


def test_an_episode_ends_on_the_last_layer_with_nothing_left(make_problem):
    problem = make_problem()
    walk = problem.walk()
    for width in problem.min_widths:
        walk.choose(width)
    last = ObservationEncoder(problem).encode(walk, 0.8)
    assert last.dtype == np.float32
    assert (by_name(last)["t"], by_name(last)["rest"]) == (1.0, 0.0)
