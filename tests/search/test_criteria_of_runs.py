"""Criteria as a run meets them: what the network has nothing for is said before any work, and only where it is cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from amc.costs import Budget
from amc.data import DataConfig, load_data
from amc.errors import ConfigurationError
from amc.models import create_model
from amc.pipeline.criterion_check import check_criterion
from amc.pipeline.families import FilterFamily, create_family
from amc.pipeline.job import Job
from amc.pipeline.prepare import prepare
from amc.pipeline.search import SearchConfig
from amc.pruning import FILTER_CRITERIA, Evidence, PruningConfig
from amc.pruning.criteria.gradients import TaylorChannels
from amc.storage.source import ModelSource
from amc.structure import Allocation
from amc.training import FineTuneConfig


class HalfNormalised(nn.Sequential):
    """Three convolutions, of which the first alone has a batch norm."""

    def __init__(self):
        super().__init__(
            *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4)),
        )


def task_of(criterion, family="filter", exclude=()):
    return prepare(
        HalfNormalised().eval(),
        None,
        Budget(flops=0.9) if family == "filter" else Budget(params=0.5),
        pruning=PruningConfig(criterion=criterion, family=family, exclude=exclude),
        finetune=FineTuneConfig(),
        evaluate=lambda model: 0.0,
        example_input=torch.zeros(1, 3, 8, 8),
    )


def test_what_the_network_lacks_is_told_before_work_starts():
    with pytest.raises(ConfigurationError, match="'bn_scale' needs batch norms, but none scales the channels of '3'"):
        task_of("bn_scale")


def test_groups_that_are_not_cut_need_no_batch_norm():
    family = create_family(task_of("bn_scale", exclude=("3", "5")))
    assert isinstance(family, FilterFamily)
    assert family.kept(Allocation("filter", {"0": 3}))[0].shape == (3,)


@pytest.mark.parametrize(
    ("family", "criterion", "needs"), [("filter", "taylor", "gradients"), ("weight", "wanda", "activations")]
)
def test_criteria_that_need_data_say_so_without(family, criterion, needs):
    with pytest.raises(ConfigurationError, match=f"'{criterion}' needs data: its {needs} come from calibration images"):
        task_of(criterion, family)


def test_gradients_without_labels_are_told_before_work_starts():
    task = {"pruning": PruningConfig(criterion="taylor"), "finetune": FineTuneConfig(), "evaluate": lambda model: 0.0}
    with pytest.raises(ConfigurationError, match=r"'taylor' needs labels: .*calibration= has inputs alone; give data"):
        prepare(HalfNormalised(), None, Budget(flops=0.9), calibration=torch.rand(20, 3, 8, 8), **task)


def test_apoz_without_zeros_in_any_activation_is_told_before_work_starts():
    def task(activation):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), activation, nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4))
        return prepare(
            model,
            None,
            Budget(flops=0.9),
            pruning=PruningConfig(criterion="apoz", exclude=("2",)),
            finetune=FineTuneConfig(),
            evaluate=lambda model: 0.0,
            calibration=torch.randn(40, 3, 8, 8),
        )

    task(nn.ReLU())
    with pytest.raises(ConfigurationError, match=r"'apoz' counts zero activations, but those of '0' hold none: .*ReLU"):
        task(nn.Tanh())


def test_blocks_that_may_be_dropped_have_no_channels_to_rank():
    data = load_data(DataConfig(train_images=60, search_images=20, test_images=20, calibration_images=20))
    model, rules = create_model("digits_resnet", seed=0), PruningConfig(criterion="l1", blocks=True)
    task = prepare(model, data, Budget(flops=0.5), pruning=rules, finetune=FineTuneConfig(epochs=0), device="cpu")
    assert any(task.structure.groups[decision.group].block for decision in task.problem.decisions)
    for criterion in FILTER_CRITERIA.names():
        check_criterion(task.model, task.structure, task.problem, criterion, data, None)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ("global:criterion=taylr", "unknown criterion 'taylr'; did you mean 'taylor'"),
        ("penalty:criterion=magnitude", "unknown criterion 'magnitude'"),
        ("global:criterion=bn_scale", "'bn_scale' needs batch norms, but none scales the channels of '3'"),
        ("snip", "'snip' needs data: its gradients come from calibration images"),
    ],
)
def test_what_an_agent_ranks_by_is_checked_before_work_starts(agent, message):
    task = task_of("l1")
    for played, compared in ((agent, ()), ("uniform", (agent,))):
        with pytest.raises(ConfigurationError, match=message):
            Job(task, SearchConfig(agent=played), ModelSource.of(task.model), compare_with=compared)


@pytest.mark.heavy
def test_runs_give_criteria_the_labels_of_the_calibration_split(workshop):
    task = workshop.task
    family = FilterFamily(replace(task, pruning=PruningConfig(criterion="taylor", recovery="none")))
    decision, split = task.problem.decisions[-1], task.data.calibration
    group = task.structure.groups[decision.group]
    scores = TaylorChannels()(group, Evidence(task.model, task.structure, [split.inputs()], [split.targets]))
    kept = family.kept(Allocation("filter", {decision.name: 5}))[decision.group]
    assert kept.tolist() == sorted(scores.argsort(descending=True)[:5].tolist())
    wrong = Evidence(task.model, task.structure, [split.inputs()], [split.targets.roll(1)])
    assert kept.tolist() != sorted(TaylorChannels()(group, wrong).argsort(descending=True)[:5].tolist())


@pytest.mark.parametrize(("family", "criterion"), [("filter", "auto"), ("filter", "fpgm"), ("weight", "random")])
def test_criteria_on_weights_work_without_data(family, criterion):
    task = task_of(criterion, family)
    decision = task.problem.decisions[0]
    pruned = create_family(task).prune(Allocation(family, {decision.name: 4}))
    assert pruned(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
