"""Every registered penalty is under one contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from amc.errors import ConfigurationError
from amc.training import FineTuneConfig, TrainConfig, TrainingHooks, fine_tune
from amc.training.objective import objective_of
from amc.training.penalties.registry import PENALTIES
from amc.training.terms import Batch
from amc.utils.options import create

QUICK = FineTuneConfig(epochs=3, batch_size=20, dtype="float32", distillation=0.0, keep="last", learning_rate=0.02)
NAMES = PENALTIES.names()


def hooks_of(model):
    return [hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


@pytest.mark.parametrize("name", NAMES)
def test_a_penalty_leaves_a_network_of_the_same_form_in_evaluation_mode(name, make, data):
    model, plain = make(), make()
    result = fine_tune(model, data, replace(QUICK, penalties=(name,)), device="cpu")
    assert all(record.loss == record.loss and record.loss > 0 for record in result.epochs)
    assert not hooks_of(model)
    assert not any(module.training for module in model.modules())
    assert [(key, value.shape) for key, value in model.state_dict().items()] == [
        (key, value.shape) for key, value in plain.state_dict().items()
    ]
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_what_the_last_epoch_was_scored_with_is_what_is_left(name, make, data):
    model = make()
    result = fine_tune(model, data, replace(QUICK, penalties=(name,)), device="cpu")
    with torch.no_grad():
        right = (model(data.search.inputs()).argmax(1) == data.search.targets).float().mean()
    assert 100 * float(right) == pytest.approx(result.epochs[-1].accuracy, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_network_and_no_random_state_is_lost(name, make, data):
    first, second = make(), make()
    before = torch.get_rng_state()
    for model in (first, second):
        fine_tune(model, data, replace(QUICK, penalties=(name,)), seed=3, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_training_resumes_to_the_same_network(name, make, data, tmp_path):
    config = replace(QUICK, penalties=(name,))
    whole, killed = make(), make()
    fine_tune(whole, data, config, device="cpu")

    def kill(record):
        if record.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fine_tune(killed, data, config, device="cpu", hooks=TrainingHooks(on_epoch=kill), checkpoint=tmp_path / "state")
    resumed = make(seed=1)
    fine_tune(resumed, data, config, device="cpu", checkpoint=tmp_path / "state")
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@pytest.mark.parametrize("name", NAMES)
def test_a_stronger_penalty_costs_more_and_has_a_gradient(name, make, training):
    values = []
    for factor in (1.0, 3.0):
        model, penalty = make(), create(PENALTIES, name)
        if hasattr(penalty, "strength"):
            penalty.strength *= factor
        penalty.attach(training(model))
        model.train()
        output = model(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
        loss = penalty.loss(Batch(torch.zeros(4), output, step=8))
        values.append(0.0 if loss is None else float(loss.detach()))
        penalty.detach()
        assert not hooks_of(model)
    if hasattr(create(PENALTIES, name), "strength") and name != "sss":  # whose proximal step takes the gradient's place
        assert values[1] == pytest.approx(3 * values[0], rel=1e-4)
        assert values[0] > 0


@pytest.mark.parametrize("name", NAMES)
def test_layers_that_do_not_exist_are_named(name, make, training):
    penalty = create(PENALTIES, name, layers=("bdy*",))
    with pytest.raises(ConfigurationError, match=r"whose names match bdy\*, among .*; correct its option 'layers'"):
        penalty.attach(training(make()))


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_batch_norms(name, make, data):
    config = replace(QUICK, epochs=1, penalties=(name,))
    if name == "slimming":
        with pytest.raises(
            ConfigurationError, match=r"needs batch norms with scales, and the network has none; choose"
        ):
            fine_tune(make(norms=False), data, config, device="cpu")
    else:
        assert fine_tune(make(norms=False), data, config, device="cpu").epochs[0].loss > 0


def test_penalties_are_chosen_with_options_and_keep_the_last_epoch(make):
    config = TrainConfig(penalties=("slimming:strength=0.001", {"name": "l1", "layers": ["head"]}))
    assert config.penalties == ("slimming:strength=0.001", 'l1:layers=["head"]')
    terms = objective_of(config).terms
    assert [type(term).__name__ for term in terms[-2:]] == ["BatchNormL1", "L1Decay"]
    with pytest.raises(ConfigurationError, match="keep must be 'last' where there are penalties"):
        FineTuneConfig(penalties=("l1",))
    with pytest.raises(ConfigurationError, match="unknown penalty 'l3'"):
        TrainConfig(penalties=("l3",))
    with pytest.raises(ConfigurationError, match="strength must be at least 0, not -1"):
        TrainConfig(penalties=("l1:strength=-1",))
