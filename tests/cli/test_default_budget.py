"""What the budget is where none is given."""

import pytest

from amc.costs import Budget
from amc.errors import UnknownNameError
from amc.pipeline.config import BudgetConfig, RunConfig, budget_of
from amc.report.run_folder import default_path


@pytest.mark.parametrize("reward", ["accuracy", "cross_entropy", "agreement"])
def test_rewards_that_grow_towards_the_dense_network_get_half_the_flops(reward):
    assert budget_of(RunConfig(reward=reward)) == Budget(flops=0.5)


@pytest.mark.parametrize("reward", ["flops", "params"])
def test_accuracy_guaranteed_rewards_get_no_bound_unless_one_is_given(reward):
    assert budget_of(RunConfig(reward=reward)) is None
    assert budget_of(RunConfig(reward=reward, budget=BudgetConfig(params=0.25))) == Budget(params=0.25)


def test_counts_are_whole_and_shares_are_not():
    assert budget_of(RunConfig(budget=BudgetConfig(flops=60_000_000.0))) == Budget(flops=60_000_000)
    both = RunConfig(budget=BudgetConfig(flops=0.5, params=0.4))
    assert budget_of(both) == Budget(flops=0.5, params=0.4)


def test_unknown_rewards_are_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        budget_of(RunConfig(reward="acuracy"))


def test_the_default_folder_says_what_bounds_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_path(RunConfig()).name == "digits_resnet-digits-ddpg-flops0.5-seed0"
    assert default_path(RunConfig(reward="params")).name == "digits_resnet-digits-ddpg-by_params-seed0"
