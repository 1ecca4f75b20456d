"""One evaluator for searches, environments and agents: scores, stages, saliencies."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs
from amc.errors import ConfigurationError, UnknownNameError
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
    with pytest.raises(UnknownNameError, match="unknown saliency 'shap'"):
        request.getfixturevalue(fixture).evaluator.saliency("shap")
