"""Rounds of pruning: what is kept composes, what is rewound is what was, and a stopped run ends at the same bits."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import amc
from amc.costs import Budget
from amc.costs.counting import count_flops, count_params
from amc.data import DataConfig, load_data
from amc.errors import ConfigurationError, UnknownNameError
from amc.models import create_model
from amc.pipeline.deliver import Workshop
from amc.pipeline.prepare import prepare, train_dense
from amc.pipeline.recorder import Recorder
from amc.pipeline.rounds import composed, part_of, round_widths
from amc.pruning import PruningConfig
from amc.storage.architecture import describe
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.structure import Allocation
from amc.training import FineTuneConfig, TrainConfig
from amc.training.fine_tuning import train_model
from amc.training.records import TrainingHooks

SCHEDULES = ["gradual:count=2", "ticket:count=2"]
QUICK = PruningConfig(family="weight", criterion="magnitude", recovery="none")
TRAIN = TrainConfig(epochs=2, batch_size=64, dtype="float32")


def make_task(family, **options):
    return prepare(
        create_model("digits_resnet", seed=0),
        load_data(DataConfig(train_images=128, search_images=60, test_images=30, calibration_images=40)),
        Budget(flops=0.4) if family == "filter" else Budget(params=0.2),
        pruning=PruningConfig(
            family=family, **({"criterion": "magnitude", "recovery": "none"} if family == "weight" else {})
        ),
        finetune=FineTuneConfig(epochs=2, batch_size=64, dtype="float32", learning_rate=0.02),
        device="cpu",
        dtype="float32",
        **{"train": TRAIN, **options},
    )


@pytest.fixture(scope="module", params=["filter", "weight"])
def workshop(request):
    task = make_task(request.param)
    train_dense(task, TRAIN, Recorder())
    return Workshop(task)


def with_schedule(workshop, schedule):
    other = copy.copy(workshop)
    other.task = replace(workshop.task, schedule=schedule)
    return other


def uneven(problem):
    return problem.allocation(problem.project(np.linspace(0.3, 1.0, len(problem.decisions)).tolist()))


class Checkpointed(Recorder):
    def __init__(self, folder):
        self.folder = folder

    def checkpoint(self, name):
        return self.folder / f"{name}.pt"


@pytest.mark.heavy
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rounds_end_at_the_allocation_and_load_from_the_dense_description_alone(workshop, schedule, tmp_path):
    task = workshop.task
    allocation = uneven(task.problem)
    delivered = with_schedule(workshop, schedule).deliver("me", allocation, Checkpointed(tmp_path))
    costs = {metric: task.problem.cost(task.problem.widths(allocation), metric) for metric in ("flops", "params")}
    if task.problem.kind == "filter":
        assert count_flops(delivered.model, task.example_input) == costs["flops"]
        assert count_params(delivered.model) == costs["params"]
    else:
        found = sum(int(weight.count_nonzero()) for weight in delivered.model.parameters())
        assert found <= costs["params"]
        for decision, width in allocation.widths.items():
            assert int(delivered.model.get_parameter(f"{decision}.weight").count_nonzero()) <= width
    (tmp_path / "net").mkdir()
    source = ModelSource("name", "digits_resnet", {})
    save_network(tmp_path / "net", delivered.model, describe(task.model, task.structure, delivered.kept, source))
    images = task.data.search.take(range(8)).inputs()
    with torch.no_grad():
        assert torch.equal(amc.load(tmp_path / "net")(images), delivered.model(images))


@pytest.mark.heavy
@pytest.mark.parametrize("schedule", ["iterative:count=2"])
def test_rounds_are_recorded_and_a_repeated_start_ends_at_the_same_bits(workshop, schedule, tmp_path):
    rounds, allocation = with_schedule(workshop, schedule), uneven(workshop.task.problem)
    undisturbed = rounds.deliver("me", allocation, Checkpointed(tmp_path))
    next(tmp_path.glob("*-round2.pt")).unlink()  # stopped in the second round
    resumed = rounds.deliver("me", allocation, Checkpointed(tmp_path))
    assert resumed.figures() == undisturbed.figures()
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
    costs = [record["cost"] for record in undisturbed.figures()["rounds"]]
    assert len(costs) == 2
    assert costs[0] > costs[1] == workshop.task.problem.cost(workshop.task.problem.widths(allocation))


def no_training(monkeypatch):
    trained = SimpleNamespace(note="", curve=())
    monkeypatch.setattr("amc.pipeline.rounds.fine_tune", lambda *arguments, **options: trained)


def same_weights(workshop, finished, kept_of, dense):
    """Every weight of the finished network is the dense one's where it stays."""
    task = workshop.task
    if task.problem.kind == "weight":
        expected = copy.deepcopy(task.model)
        expected.load_state_dict(dense)
        for name, value in finished.named_parameters():
            stays = value != 0
            assert torch.equal(value[stays], expected.get_parameter(name)[stays])
    else:
        from amc.structure.slicing import cut

        expected = copy.deepcopy(task.model)
        expected.load_state_dict(dense)
        cut(expected, task.structure, kept_of)
        for name, value in expected.named_parameters():
            assert torch.equal(value, finished.get_parameter(name))


def test_a_ticket_is_rewound_to_the_weights_before_training(workshop, monkeypatch):
    no_training(monkeypatch)
    ticket = with_schedule(workshop, "ticket:count=2")
    delivered = ticket.deliver("me", uneven(workshop.task.problem), Recorder())
    initial = create_model("digits_resnet", seed=0).state_dict()
    same_weights(workshop, delivered.model, delivered.kept, initial)


def test_an_early_ticket_is_rewound_to_the_training_as_it_was(workshop, monkeypatch):
    states = []
    again = create_model("digits_resnet", seed=0)
    hooks = TrainingHooks(on_epoch=lambda record: states.append(copy.deepcopy(again.state_dict())))
    train_model(again, workshop.task.data, TRAIN, seed=0, device="cpu", hooks=hooks)
    no_training(monkeypatch)
    early = with_schedule(workshop, "ticket:count=1;rewind=early;epoch=1")
    delivered = early.deliver("me", uneven(workshop.task.problem), Recorder())
    same_weights(workshop, delivered.model, delivered.kept, states[0])


def test_scratch_starts_from_new_weights(workshop, monkeypatch):
    no_training(monkeypatch)
    delivered = with_schedule(workshop, "scratch").deliver("me", uneven(workshop.task.problem), Recorder())
    one_shot = workshop.deliver("me", uneven(workshop.task.problem), Recorder())
    for name, value in delivered.model.named_parameters():
        if value.dim() > 1:
            stays = value != 0
            same = torch.isclose(value[stays], one_shot.model.get_parameter(name)[stays])
            assert same.float().mean() < 0.05


def test_what_is_kept_composes_in_channels_of_the_dense_network(workshop):
    structure = workshop.task.structure
    index = structure.prunable[0]
    first = {index: torch.tensor([1, 4, 6, 7])}
    assert composed(structure, first, structure, {index: torch.tensor([0, 3])})[index].tolist() == [1, 7]
    assert composed(structure, {}, structure, first) == first
    assert composed(structure, first, structure, {}) == first


def test_rounds_that_cut_as_much_of_other_groups_are_other_networks(workshop):
    """A round names the groups that lose channels in it; networks of equal widths were taken for the same one."""
    problem = workshop.task.problem
    sizes = Counter(decision.size for decision in problem.decisions)
    first, second = [found for found in problem.decisions if sizes[found.size] > 1 and found.size > found.smallest][:2]
    width = max(first.smallest, second.smallest)
    for name, other in ((first.name, second.name), (second.name, first.name)):
        pruned = workshop.family.prune(Allocation(problem.kind, {name: width}))
        left = {found: int(pruned.get_parameter(f"{found}.weight").count_nonzero()) for found in (name, other)}
        dense = {found: workshop.task.model.get_parameter(f"{found}.weight") for found in (name, other)}
        kept = width if problem.kind == "weight" else width * dense[name][0].numel()
        assert left == {name: kept, other: dense[other].numel()}


def test_the_widths_of_rounds_fall_to_the_last_and_meet_their_budgets(workshop):
    problem = workshop.task.problem
    target, before = problem.widths(uneven(problem)), problem.dense_widths
    dense = problem.cost(before)
    for budget in (0.9, 0.7, 0.5):
        widths = round_widths(problem, target, budget, before)
        assert all(low <= width <= high for low, width, high in zip(target, widths, before, strict=True))
        assert problem.cost(widths) <= budget * dense
        assert set(part_of(problem, before, widths).widths) >= {
            d.name for d, old, new in zip(problem.decisions, before, widths, strict=True) if new < old
        }
        before = widths
    assert round_widths(problem, target, 1e-6, before) == target


def test_rounds_meet_the_bounds_of_several_metrics(workshop):
    problem = replace(workshop.task.problem, budget=Budget(flops=0.5, params=0.4))
    target = problem.project([1.0] * len(problem.decisions))
    final, dense = problem.costs_of(target), problem.dense_costs
    half = 1 - (1 - problem.cost(target) / problem.cost(problem.dense_widths)) / 2
    found = problem.costs_of(round_widths(problem, target, half, problem.dense_widths))
    for metric in ("flops", "params"):
        assert final[metric] < found[metric] <= (dense[metric] + final[metric]) / 2 + 1


def test_weights_that_are_gone_stay_gone_whatever_ranks(workshop):
    if workshop.task.problem.kind != "weight":
        pytest.skip("weights only")
    rules = replace(workshop.task.pruning, criterion="random")
    rounds = Workshop(replace(workshop.task, pruning=rules, schedule="iterative:count=2"))
    allocation = uneven(workshop.task.problem)
    delivered = rounds.deliver("me", allocation, Recorder())
    for name, width in allocation.widths.items():
        assert int(delivered.model.get_parameter(f"{name}.weight").count_nonzero()) == width


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "ticket", "train": None}, "rewinds to the weights before training, .* set train_first"),
        ({"schedule": "iterative:count=5"}, "needs an epoch for each of its 5 rounds, and there are 2"),
        ({"schedule": "scratch", "tune": lambda model: None}, "finetune is a function of your own"),
        ({"schedule": "iterativ"}, "unknown pruning schedule 'iterativ'; did you mean 'iterative'"),
    ],
)
def test_schedules_that_cannot_be_carried_out_are_found_before_work_starts(options, message):
    with pytest.raises(ConfigurationError, match=message):
        make_task("filter", **options)


def test_the_schedule_is_a_setting_of_the_search():
    data = load_data(DataConfig(train_images=200, search_images=40, test_images=40, calibration_images=40))
    search = amc.SearchConfig(agent="uniform", schedule={"name": "iterative", "count": 2}, untrained=True)
    result = amc.compress(
        create_model("digits_lenet", seed=0),
        data,
        search=search,
        finetune=amc.FineTuneConfig(epochs=2),
        device="cpu",
    )
    assert result.summary["schedule"] == "iterative:count=2"
    assert len(result.summary["rounds"]) == 2
    with pytest.raises(UnknownNameError, match="did you mean 'iterative'"):
        amc.SearchConfig(schedule="iteratve")
