"""Optimisers by name: every one trains, continues to the bit, and refuses a state that is not its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from amc.data import DataConfig, load_data
from amc.errors import CheckpointError, ConfigurationError, UnknownNameError
from amc.training import FineTuneConfig, TrainingHooks, fine_tune
from amc.training.defaults import fitted
from amc.training.optimizer import OPTIMIZERS, TorchOptimizer, _steppable, optimizer_over

QUICK = FineTuneConfig(epochs=2, batch_size=16, dtype="float32", distillation=0.0, keep="last")
EVERY = [name for name in OPTIMIZERS.names() if name != "torch"]
EVERY += [f"torch:kind={kind}" for kind in ("NAdam", "RMSprop", "Adagrad", "ASGD", "Adamax", "RAdam", "Adadelta")]


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=160, search_images=40, calibration_images=20, test_images=40))


@pytest.mark.parametrize("optimizer", EVERY)
def test_a_killed_training_ends_at_the_same_bits(data, tmp_path, optimizer, network):
    config = replace(QUICK, optimizer=optimizer)
    whole, part = network(), network()
    result = fine_tune(whole, data, config)
    assert result.epochs[-1].loss < result.epochs[0].loss

    def stop(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(part, data, config, checkpoint=tmp_path / "state.pt", hooks=TrainingHooks(on_epoch=stop))
    part = network()
    fine_tune(part, data, config, checkpoint=tmp_path / "state.pt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, part.state_dict()[name]), name


def test_adamw_takes_the_step_of_its_paper():
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 3.0]]))
    optimizer = optimizer_over(model, FineTuneConfig(optimizer="adamw:eps=1e-12", weight_decay=0.1))
    optimizer.param_groups[0]["lr"] = 0.01
    model.weight.grad = torch.tensor([[0.5, -4.0, 1e-3]])
    optimizer.step()
    # The first step of Adam is the learning rate times the sign; the decay shrinks the weights apart from it.
    expected = torch.tensor([[1.0, -2.0, 3.0]]) * (1 - 0.01 * 0.1) - 0.01 * torch.tensor([[1.0, -1.0, 1.0]])
    assert torch.allclose(model.weight, expected, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "torch:kind=NAdam"])
def test_a_state_of_another_shape_never_reaches_the_optimiser(data, tmp_path, optimizer, network):
    config, file = replace(QUICK, optimizer=optimizer), tmp_path / "state.pt"
    fine_tune(network(), data, config, checkpoint=file)
    content = torch.load(file, weights_only=True)
    entries = content["state"]["optimizer"]["state"]
    name = next(name for name, value in entries[0].items() if value.dim())
    entries[0][name] = entries[0][name][:1]
    torch.save(content, file)
    with pytest.raises(CheckpointError, match="must have shape"):
        fine_tune(network(), data, config, checkpoint=file)


def test_the_learning_rate_that_is_left_open_fits_the_optimiser(data, network):
    assert fitted(replace(QUICK, optimizer="adamw"), network(), data).learning_rate == 1e-3
    assert fitted(QUICK, network(), data).learning_rate != 1e-3


def test_checkpoints_of_sgd_are_those_of_earlier_versions(data, tmp_path, network):
    fine_tune(network(), data, QUICK, checkpoint=tmp_path / "state.pt")
    assert "optimizer" not in torch.load(tmp_path / "state.pt", weights_only=True)["settings"]
    with pytest.raises(CheckpointError):
        fine_tune(network(), data, replace(QUICK, optimizer="adamw"), checkpoint=tmp_path / "state.pt")


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        ("sdg", UnknownNameError, "did you mean 'sgd'"),
        ("torch:kind=Adamm", UnknownNameError, "did you mean 'Adam"),
        ("torch:kind=LBFGS", UnknownNameError, "unknown optimiser of torch.optim 'LBFGS'"),
        ("torch:kind=Adam;beta=[0.9, 0.99]", UnknownNameError, "did you mean 'betas'"),
        ("adamw:betas=[0.9, 1.5]", ConfigurationError, r"betas must be in \[0, 1\)"),
    ],
)
def test_wrong_names_and_options_are_one_line_before_anything_starts(optimizer, error, message):
    with pytest.raises(error, match=message):
        FineTuneConfig(optimizer=optimizer)


@pytest.mark.parametrize(
    ("chosen", "spelled"),
    [
        ("NAdam", "torch:kind=NAdam"),
        ("NAdam:betas=[0.9, 0.99]", "torch:kind=NAdam;betas=[0.9, 0.99]"),
        ({"name": "RMSprop", "alpha": 0.9}, "torch:kind=RMSprop;alpha=0.9"),
        ("AdamW:eps=1e-6", "adamw:eps=1e-6"),
        ("SGD", "sgd"),
    ],
)
def test_classes_of_torch_are_chosen_by_their_own_names(chosen, spelled):
    assert FineTuneConfig(optimizer=chosen).optimizer == spelled


def test_the_documentation_names_the_classes_that_are_not_taken():
    optimisers = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type) and name != "Optimizer"}
    left = [name for name in optimisers if name not in _steppable()]
    assert left
    assert all(name in TorchOptimizer.__doc__ for name in left)


def decays_of(model, config):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = optimizer_over(model, config).param_groups
    return {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}


def test_layers_have_decays_of_their_own_and_the_first_pattern_counts(network):
    config = replace(QUICK, weight_decay=0.1, decay_norms=False, decay_by_layer={"4.bias": 0.3, "4": 0.2, "[01]*": 0.0})
    assert decays_of(network(), config) == {
        "0.weight": 0.0,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "4.weight": 0.2,
        "4.bias": 0.3,
    }


def test_a_pattern_that_matches_no_layer_is_refused(network):
    with pytest.raises(UnknownNameError, match=r"decay_by_layer.*'fc'"):
        optimizer_over(network(), replace(QUICK, decay_by_layer={"fc": 0.0}))


def test_a_negative_decay_is_refused():
    with pytest.raises(ConfigurationError, match="decay_by_layer must be from 0 to"):
        FineTuneConfig(decay_by_layer={"fc": -1.0})
