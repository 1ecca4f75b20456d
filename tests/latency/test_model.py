"""From measured operators to a latency that is a function of the widths."""

from __future__ import annotations

from itertools import product

import pytest

from amc.costs.solved_extents import ExtentSolver
from amc.errors import BudgetError, ConfigurationError
from amc.latency.check import check_line, errors_of, refuse_unsure
from amc.latency.fit import fit_latency
from amc.structure import Extent


def test_axes_of_operators_are_solved_from_what_was_seen():
    widths = [(4, 6), (8, 6), (8, 2), (3, 5)]
    solver = ExtentSolver(widths)
    assert solver.extent(tuple(2 * a + b + 7 for a, b in widths)) == Extent(7, ((0, 2), (1, 1)))
    assert solver.extent((5, 5, 5, 5)) == Extent(5)
    assert solver.extent(tuple(a * b for a, b in widths)) is None


def test_channels_that_an_engine_pads_are_known_by_the_channels_themselves():
    widths = [(4, 6), (8, 20), (8, 2), (3, 33)]
    solver = ExtentSolver(widths)
    assert solver.extent((16, 32, 16, 48)) == Extent(0, ((1, 1),))


def test_a_time_that_was_interrupted_does_not_count(make_profile):
    profile = make_profile()
    profile.networks[7].operators[1].us = (50_000.0, 60_000.0)
    check = errors_of(profile, fit_latency(profile))
    assert check["mape"] < 0.02


def test_too_few_networks_to_tell_decisions_apart_are_an_error():
    with pytest.raises(ConfigurationError, match=r"told apart by at least 3 networks .* --networks"):
        ExtentSolver([(4, 6), (8, 12)])


def test_a_staircase_is_found_with_its_steps(make_profile, law):
    fitted = fit_latency(make_profile())
    for a, b in product((8, 16, 24, 64), (8, 32, 40, 128)):
        wanted = 1e3 * (sum(law(a, b)) + 100)
        assert fitted.predicted_ns({"a": a, "b": b}) == pytest.approx(wanted, rel=0.01)
    assert fitted.predicted_ns({"a": 17}) == fitted.predicted_ns({"a": 32})


def test_decisions_that_are_not_made_are_dense(make_profile):
    fitted = fit_latency(make_profile())
    cost = fitted.cost_of(["b"], [128])
    assert [cost.cost((width,)) for width in (16, 128)] == [
        fitted.predicted_ns({"b": 16}),
        fitted.predicted_ns({}),
    ]


def test_a_model_is_judged_on_networks_that_it_has_not_seen(make_profile):
    profile = make_profile(error=0.04)
    check = errors_of(profile, fit_latency(profile))
    assert check["networks"] == 24
    assert check["mape"] == pytest.approx(0.04, abs=0.01)
    assert abs(check["bias"]) < 0.01
    assert check["rank_correlation"] > 0.9
    assert "24 unseen networks" in check_line(check)
    assert "rank correlation" in check_line(check)
    refuse_unsure(check, insist=False)


def test_a_model_that_is_far_off_is_refused_unless_insisted_on(make_profile):
    profile = make_profile(error=0.2)
    check = errors_of(profile, fit_latency(profile))
    with pytest.raises(BudgetError, match=r"are 2\d\.\d% off: profile again on a quiet machine .*--budget.insist true"):
        refuse_unsure(check, insist=False)
    refuse_unsure(check, insist=True)


def test_a_model_needs_twenty_unseen_networks(make_profile):
    profile = make_profile()
    profile.networks = [n for n in profile.networks if n.role != "check"][:50]
    check = errors_of(profile, fit_latency(profile))
    with pytest.raises(BudgetError, match="at least 20 unseen networks, not 0"):
        refuse_unsure(check, insist=False)


def test_networks_without_a_common_operator_are_an_error(make_profile):
    profile = make_profile()
    profile.networks[3].operators = []
    with pytest.raises(ConfigurationError, match="must share operators"):
        fit_latency(profile)
