"""Whole residual blocks dropped by a run: scored, refit, saved, loaded, exported and refused in time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import amc
from amc.costs import Budget
from amc.costs.counting import count_flops, count_params
from amc.costs.size_bytes import SIZE_BYTES
from amc.data import DataConfig, load_data
from amc.errors import BudgetError, CheckpointError, ConfigurationError
from amc.export import export_model
from amc.models import create_model
from amc.pipeline.deliver import Workshop
from amc.pipeline.prepare import prepare, train_dense
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig, search_policy
from amc.pruning import CRITERIA, PruningConfig
from amc.pruning.recovery.dropped_operators import operators_of
from amc.pruning.recovery.reconstruction import reconstruct
from amc.pruning.recovery.registry import RECOVERIES
from amc.pruning.recovery.residual_sums import confirm_residual_sums, traced_sums
from amc.storage.architecture import describe
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.structure.residual_blocks import is_within
from amc.training import FineTuneConfig, TrainConfig

RULES = PruningConfig(blocks=True)


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=400, search_images=120, test_images=60, calibration_images=60))


def task_of(data, budget=Budget(flops=0.5), pruning=RULES, epochs=0):  # noqa: B008 - a budget is frozen
    model = create_model("digits_resnet", seed=0)
    finetune = FineTuneConfig(epochs=epochs, dtype="float32", learning_rate=0.02)
    return prepare(model, data, budget, pruning=pruning, finetune=finetune, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def shop(data):
    task = task_of(data)
    train_dense(task, TrainConfig(epochs=3, dtype="float32"), Recorder())
    return Workshop(task)


def block_names(task):
    return [task.structure.groups[index].name for index in task.structure.blocks]


def without(task, *names):
    """The widths of half the FLOPs, without some blocks."""
    requests = [0.0 if d.name in names else 1.0 if d.may_vanish else 0.6 for d in task.problem.decisions]
    allocation = task.problem.allocation(task.problem.project(requests))
    assert [name for name in block_names(task) if not allocation.widths[name]] == list(names)
    return allocation


@pytest.mark.parametrize("recovery", RECOVERIES.names())
def test_the_network_costs_what_was_predicted_and_scores_as_its_candidate(shop, recovery):
    task = replace(shop.task, pruning=replace(RULES, recovery=recovery, recalibration_images=0))
    here = Workshop(task)
    allocation = without(task, block_names(task)[0])
    delivered = here.deliver("test", allocation, Recorder())
    assert delivered.costs["flops"] == count_flops(delivered.model, task.example_input) <= task.problem.limit
    assert delivered.costs["params"] == count_params(delivered.model)
    if recovery in ("once", "none"):  # the others do more for the delivery
        assert task.searched(delivered.model) == pytest.approx(here.evaluator.score(allocation).accuracy)


def test_layers_behind_a_dropped_block_are_refit_toward_the_sums_of_the_dense_network(shop, monkeypatch):
    task, images = shop.task, shop.task.calibration_inputs()
    allocation = without(task, block_names(task)[0])
    pruner = shop.family._pruner

    def error(**changes):
        pruned = pruner.prune(allocation)
        with monkeypatch.context() as patch:
            for name, change in changes.items():
                patch.setattr(f"amc.pruning.recovery.reconstruction.{name}", change)
            reconstruct(pruned, task.model, task.structure, pruner.kept(allocation), images)
        with torch.no_grad():
            return float((pruned(images) - task.model(images)).square().mean())

    gone = task.structure.dropped([0 if g.name == block_names(task)[0] else 1 for g in task.structure.groups])
    with torch.no_grad():
        operators = operators_of(task.model, gone, images[:2])
    sums = confirm_residual_sums(
        {name: found for name, found in traced_sums(task.structure, task.model).items() if not is_within(name, gone)},
        pruner.prune(allocation),
        images[:2],
        operators,
    )
    assert set(sums) == {layer for layer in traced_sums(task.structure, task.model) if not is_within(layer, gone)}
    assert error() < error(traced_sums=lambda *_: {})


def test_the_evaluator_knows_what_a_block_is_worth(shop):
    task, evaluator = shop.task, shop.evaluator
    errors = evaluator.errors()
    for name in block_names(task):
        assert errors[name].shape == (2,)
        assert 0 < errors[name][0] <= 1
        assert errors[name][1] == 0
    for criterion in CRITERIA["filter"].names():
        assert evaluator.saliency(criterion)[block_names(task)[0]].shape == (1,)


def test_candidates_with_and_without_blocks_do_not_disturb_each_other(shop):
    task, names = shop.task, block_names(shop.task)
    allocations = [without(task, names[0]), without(task), without(task, names[1]), without(task, *names[:2])]
    alone = [Workshop(task).evaluator.score(allocation) for allocation in allocations]
    assert [shop.evaluator.score(allocation) for allocation in (*allocations, *allocations)] == alone * 2
    assert len({score.cross_entropy for score in alone}) == len(alone)


@pytest.mark.heavy
def test_a_run_saves_and_loads_a_network_without_blocks(data, tmp_path):
    model = create_model("digits_resnet", seed=0)
    search = SearchConfig(agent="random", episodes=4, seed=1, untrained=True)
    options = {"pruning": RULES, "finetune": FineTuneConfig(epochs=1, dtype="float32"), "search": search}
    result = amc.compress(model, data, Budget(flops=0.3), device="cpu", progress=False, **options)
    dropped = result.architecture["dropped"]
    assert dropped
    result.save(tmp_path / "run")
    again = amc.load(tmp_path / "run")
    images = data.test.inputs()
    with torch.no_grad():
        torch.testing.assert_close(again(images), result.model.eval()(images))
    policy = json.loads((tmp_path / "run" / "policy.json").read_text())
    gone = [name for name, width in policy["widths"].items() if width == 0]
    assert gone
    assert all(policy["pruning_ratios"][name] == 1 for name in gone)
    assert all(name not in dict(again.named_parameters()) for name in dropped)
    export_model(again, tmp_path / "model.onnx", "onnx", images[:1])


@pytest.mark.heavy
def test_a_network_without_blocks_is_pruned_further(shop, data, tmp_path):
    allocation = without(shop.task, block_names(shop.task)[0])
    delivered = shop.deliver("first", allocation, Recorder())

    source = ModelSource("name", "digits_resnet", {})
    described = describe(shop.task.model, shop.task.structure, delivered.kept, source)
    (tmp_path / "first").mkdir()
    save_network(tmp_path / "first", delivered.model, described)
    result = amc.compress(
        amc.load(tmp_path / "first"),
        data,
        Budget(flops=0.6),
        device="cpu",
        pruning=RULES,
        search=SearchConfig(agent="random", episodes=8, untrained=True),
        finetune=FineTuneConfig(epochs=0),
        progress=False,
    )
    assert set(described["dropped"]) <= set(result.architecture["dropped"])
    result.save(tmp_path / "second")
    images = data.test.inputs()
    with torch.no_grad():
        torch.testing.assert_close(amc.load(tmp_path / "second")(images), result.model.eval()(images))


@pytest.mark.parametrize("name", ["", "nothing", "layer1.0.conv1.weight"])
def test_a_file_cannot_drop_what_the_network_lacks(shop, tmp_path, name):
    result = shop.deliver("test", without(shop.task), Recorder())

    source = ModelSource("name", "digits_resnet", {})
    described = describe(shop.task.model, shop.task.structure, result.kept, source)
    save_network(tmp_path, result.model, {**described, "dropped": {name: 0}})
    with pytest.raises(CheckpointError, match="must drop blocks that the dense network has"):
        amc.load(tmp_path)


def test_a_penalty_on_whole_layers_closes_blocks_which_are_then_dropped(data):
    task = task_of(data, None, replace(RULES, criterion="gates", recovery="none", recalibration_images=0))
    names = block_names(task)
    last = {
        name: task.structure.groups[index].writers[-1] for name, index in zip(names, task.structure.blocks, strict=True)
    }
    norms = tuple(layer.batch_norm for layer in task.structure.layers if layer.name in last.values())
    config = TrainConfig(
        epochs=3,
        batch_size=40,
        dtype="float32",
        penalties=({"name": "sss", "strength": 3, "unit": "layer", "layers": norms},),
    )
    train_dense(task, config, Recorder())
    closed = {norm for norm in norms if not task.model.get_submodule(norm).weight.any()}
    assert closed
    here = Workshop(task)
    best = search_policy(
        task.problem, here.evaluator, SearchConfig(agent="penalty", episodes=1, reward="flops")
    ).best.allocation
    gone = [name for name in names if not best.widths[name]]
    assert len(gone) == len(closed)


def test_what_blocks_do_not_go_with_is_refused_before_the_search(data):
    with pytest.raises(
        ConfigurationError, match=r"pruning\.blocks drops residual blocks, and needs pruning\.family filter"
    ):
        PruningConfig(family="weight", blocks=True)
    with pytest.raises(BudgetError, match="do not know yet what a dropped block saves"):
        task_of(data, Budget(memory=0.6))
    with pytest.raises(ConfigurationError, match="prunes in 2 rounds"):
        prepare(
            create_model("digits_resnet", seed=0),
            data,
            Budget(flops=0.5),
            pruning=RULES,
            finetune=FineTuneConfig(epochs=2),
            schedule="gradual:count=2",
            device="cpu",
        )


def test_a_budget_in_bytes_is_exact_without_blocks(data):
    task = task_of(data, Budget(size_bytes=0.5))
    allocation = without(task, block_names(task)[-1])
    pruned = Workshop(task).deliver("test", allocation, Recorder())

    assert pruned.costs["size_bytes"] == SIZE_BYTES.count(pruned.model, task.example_input) <= task.problem.limit
