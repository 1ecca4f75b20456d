"""One evaluator for searches, environments and agents: scores, stages, saliencies."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs
from agents import create_agent
from amc.errors import ConfigurationError, UnknownNameError
from amc.pipeline.search import SearchConfig, search_policy
from amc.problem.evaluator import EvaluatorProxy, as_evaluator
from amc.problem.score import Score
from amc.structure import Allocation


def test_a_function_is_an_evaluator_with_one_stage_and_no_saliency():
    evaluator = as_evaluator(lambda allocation: Score(allocation.widths["a"], 0.5, images=7))
    allocation = Allocation("filter", {"a": 3})
    (stage,) = evaluator.stages(allocation, 2)
    assert stage.score == stage.optimistic == evaluator.score(allocation) == Score(3, 0.5, images=7)
    with pytest.raises(ConfigurationError, match="knows no saliency by 'magnitude'; give amc the network"):
        evaluator.saliency("magnitude")


def test_what_scores_nothing_is_no_evaluator():
    with pytest.raises(ConfigurationError, match="must be an Evaluator or a function of the allocation, not 3"):
        as_evaluator(3)


def test_environments_show_the_evaluator_through_their_wrappers(workshop):
    env = gymnasium.make(envs.FILTER_PRUNING, problem=workshop.task.problem, evaluator=workshop.evaluator)
    found = env.unwrapped.evaluator.saliency("l1")
    assert list(found) == [decision.name for decision in workshop.task.problem.decisions]


def test_weights_are_worth_their_magnitude(weight_workshop):
    task = weight_workshop.task
    found = EvaluatorProxy(weight_workshop.evaluator).saliency("magnitude")
    parameters = dict(task.model.named_parameters())
    for decision in task.problem.decisions:
        weight = parameters[f"{decision.name}.weight"].detach()
        assert found[decision.name].shape == (decision.size,)
        assert np.array_equal(found[decision.name], weight.abs().double().flatten().numpy())


def test_channels_are_worth_the_norm_of_the_filters_that_write_them(workshop):
    task = workshop.task
    found = workshop.evaluator.saliency("l2")
    parameters = dict(task.model.named_parameters())
    for decision, layer in zip(task.problem.decisions, task.problem.layers, strict=True):
        filters = parameters[layer.weight].detach().double().flatten(1)
        assert found[decision.name] == pytest.approx(filters.norm(dim=1).numpy())


@pytest.mark.parametrize("fixture", ["workshop", "weight_workshop"])
def test_unknown_saliencies_are_named(fixture, request):
    with pytest.raises(UnknownNameError, match=r"unknown (weight )?criterion 'shap'"):
        request.getfixturevalue(fixture).evaluator.saliency("shap")


@pytest.mark.parametrize("fixture", ["workshop", "weight_workshop"])
def test_errors_fall_to_nothing_with_the_width(fixture, request):
    workshop = request.getfixturevalue(fixture)
    found = workshop.evaluator.errors()
    for decision in workshop.task.problem.decisions:
        errors = found[decision.name]
        assert errors.shape == (decision.size + 1,)
        assert (np.diff(errors) <= 1e-9).all()
        assert errors[-1] == pytest.approx(0, abs=1e-6)
        assert errors[1] > 0


@pytest.mark.heavy
@pytest.mark.parametrize("fixture", ["workshop", "weight_workshop"])
@pytest.mark.parametrize(
    ("agent", "first_images"),
    [*((name, None) for name in ("erdos_renyi", "global", "lamp", "snip", "sensitivity", "dp")), ("global", 30)],
)
def test_allocations_of_the_literature_spend_the_budget_of_a_real_network(fixture, agent, first_images, request):
    workshop = request.getfixturevalue(fixture)
    problem = workshop.task.problem
    config = SearchConfig(agent, episodes=len(problem.decisions) + 2, first_images=first_images)
    best = search_policy(problem, workshop.evaluator, config).best
    widths = problem.widths(best.allocation)
    assert problem.fill(widths) == widths
    assert best.score.images == 240
    if agent != "sensitivity":
        env = gymnasium.make(f"AMC/{problem.kind.title()}Pruning-v0", problem=problem, evaluator=workshop.evaluator)
        assert create_agent(agent).plan(env, 1) == widths
