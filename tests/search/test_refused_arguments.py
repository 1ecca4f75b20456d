"""Arguments of `amc.compress` that cannot be used are refused before any work starts."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import amc
from amc.errors import AmcError, ConfigurationError, DataError, ModelError

QUICK = {"agent": "random", "episodes": 3, "finetune": amc.FineTuneConfig(epochs=1, batch_size=20), "device": "cpu"}


def images(count=120, side=16, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 4, (count,), generator=generator)
    noise = torch.rand(count, channels, side, side, generator=generator)
    return noise + classes.view(-1, 1, 1, 1) / 4, classes


def network():
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 8 * 8, 4))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 0.5}, ConfigurationError, r"must be an amc.Budget, such as amc.Budget\(flops=0.5\), not 0.5"),
        ({"finetune": {"epochs": 0}}, ConfigurationError, r"finetune must be .* or a function of the network, not {"),
        ({"finetune": amc.FineTuneConfig}, ConfigurationError, "finetune must be an amc.FineTuneConfig"),
        ({"episodes": 2.5}, ConfigurationError, "episodes must be a whole number, not 2.5"),
        ({"compare_with": "uniform,erk"}, ConfigurationError, r"must be a list, such as \['uniform', 'erk'\]"),
        ({"seed": "0"}, ConfigurationError, "seed must be a whole number, not '0'"),
        ({"seed": True}, ConfigurationError, "seed must be a whole number, not True"),
        (
            {"search": {"reward": "accuracy"}},
            ConfigurationError,
            r"search must be an amc\.SearchConfig, such as",
        ),
        ({"agent": 5}, ConfigurationError, "the agent must be a name, or a mapping .*, not 5"),
        ({"agent": {"population": 8}}, ConfigurationError, "the agent must have a name and options by name"),
        ({"agent": {"name": "cem", 1: 2}}, ConfigurationError, "the agent must have a name and options by name"),
        ({"compare_with": 5}, ConfigurationError, "must be a list"),
        ({"device": None}, ConfigurationError, "device must be auto, cpu or cuda, not None"),
        ({"pruning": "l1"}, ConfigurationError, "pruning must be an amc.PruningConfig"),
        (
            {
                "data": amc.OwnTask(lambda network: 1.0, (images(), images(40, seed=1))),
                "search": amc.SearchConfig(reward="agreement"),
            },
            ConfigurationError,
            "must be 'accuracy'",
        ),
        ({"data": (images()[0], functional.one_hot(images()[1])[:, :3])}, DataError, "as many numbers as the targets"),
        (
            {"data": (images()[0].double(), images()[1])},
            DataError,
            r"torch.float64 where .* as in x.to\(torch.float32\)",
        ),
        ({"data": ((255 * images()[0]).byte(), images()[1])}, DataError, "scale bytes, as in x / 255"),
        ({"data": (images()[0], images()[1] - 1)}, AmcError, "classes must be numbers from 0, not -1"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_at_once(options, error, message):
    arguments = {"data": images(), **options}
    data = arguments.pop("data")
    data = data if isinstance(data, amc.OwnTask) else (data, images(40, seed=1))
    with pytest.raises(error, match=message):
        amc.compress(network(), data, **{**QUICK, **arguments})


@pytest.mark.parametrize("given", [nn.Conv2d, "resnet20"], ids=["class", "name"])
def test_only_modules_are_networks(given):
    with pytest.raises(ModelError, match=r"must be a torch\.nn\.Module"):
        amc.compress(given, (images(), images(40, seed=1)), **QUICK)


def test_a_loader_alone_is_no_data():
    two_batches = DataLoader(TensorDataset(*images()), batch_size=60)
    for data in (two_batches, images(), [images()], 7):
        with pytest.raises(DataError, match=r"must be a pair \(training, test\)"):
            amc.compress(network(), data, **QUICK)


@pytest.mark.parametrize("role", ["training", "test"])
def test_inputs_that_are_not_finite_are_found_before_work_starts(role):
    data = {"training": images(), "test": images(40, seed=1)}
    data[role][0][3, 1, 2, 2] = float("nan")
    with pytest.raises(DataError, match="must be finite, but 1 of the"):
        amc.compress(network(), (data["training"], data["test"]), **QUICK)


@pytest.mark.parametrize("figure", [float("nan"), "good", None])
def test_a_measure_that_is_no_number_is_named(figure):
    with pytest.raises(ConfigurationError, match=r"evaluate\(model\) must return a finite number"):
        amc.compress(network(), amc.OwnTask(lambda network: figure, example_input=images(1)[0]), agent="uniform")


@pytest.mark.parametrize("evaluate", [None, 0.5, nn.Identity])
def test_a_measure_is_a_function(evaluate):
    with pytest.raises(ConfigurationError, match="evaluate must be a function of a network that returns a number"):
        amc.OwnTask(evaluate, example_input=images(1)[0])


def test_a_run_needs_data_or_a_measure():
    with pytest.raises(ConfigurationError, match=r"without data give your own measure .* amc\.OwnTask\(evaluate="):
        amc.compress(network(), None, **QUICK)


def test_settings_that_would_have_no_effect_are_refused():
    own, with_data = (
        amc.OwnTask(lambda network: 1.0, data, example_input=images(1)[0])
        for data in (None, (images(), images(40, seed=1)))
    )
    with pytest.raises(ConfigurationError, match="fine-tuning by settings needs data"):
        amc.compress(network(), own, finetune=amc.FineTuneConfig(epochs=1))
    with pytest.raises(ConfigurationError, match="first_images has no effect with an evaluate of your own"):
        amc.compress(network(), with_data, search=amc.SearchConfig(first_images=10))


def test_a_fine_tuning_that_returns_another_network_is_refused():
    own = amc.OwnTask(lambda network: 1.0, example_input=images(1)[0])
    with pytest.raises(ConfigurationError, match="must train the network in place"):
        amc.compress(network(), own, **{**QUICK, "finetune": lambda model: network()})
