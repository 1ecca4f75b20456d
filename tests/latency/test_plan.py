"""Which networks are measured."""

from __future__ import annotations

import pytest

from amc.errors import ConfigurationError
from amc.latency.plan import plan_networks
from amc.problem import Decision, DecisionSpace

SPACE = DecisionSpace(
    (Decision("a", 64, step=8), Decision("b", 128, min_width=12, step=16), Decision("c", 12)), "filter"
)


def test_networks_to_check_on_are_none_of_those_that_are_fitted():
    plan = plan_networks(SPACE)
    fitted = [tuple(p.widths.values()) for p in plan if p.role == "fit"]
    unseen = [tuple(p.widths.values()) for p in plan if p.role == "check"]
    assert (len(fitted), len(unseen)) == (40, 24)
    assert len({*fitted, *unseen}) == 64
    assert plan[0].role == "dense"


def test_widths_are_allowed_but_for_the_probes():
    for planned in plan_networks(SPACE)[1:]:
        for decision in SPACE.decisions:
            if planned.role != "probe":
                decision.level(planned.widths[decision.name])
            elif decision.step > 1:
                assert planned.widths[decision.name] % decision.step == decision.step - 1


def test_plans_are_the_same_for_the_same_seed():
    assert plan_networks(SPACE, seed=3) == plan_networks(SPACE, seed=3) != plan_networks(SPACE, seed=4)


@pytest.mark.parametrize("options", [{"fitted": 4}, {"checks": 0}])
def test_too_few_networks_are_an_error(options):
    with pytest.raises(ConfigurationError, match="needs at least 5 networks to fit and one to check"):
        plan_networks(SPACE, **options)


def test_a_network_with_hardly_any_widths_is_an_error():
    with pytest.raises(ConfigurationError, match="too few widths"):
        plan_networks(DecisionSpace((Decision("a", 3),), "filter"))
