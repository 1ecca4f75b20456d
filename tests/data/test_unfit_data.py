"""Data that does not fit the network, or comes in another form: one line, before any work."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

import amc
from amc.cli.main import main
from amc.errors import ConfigurationError, DataError


@pytest.fixture
def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3))


def examples(shape=(1, 8, 8), count=40, classes=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *shape, generator=generator), torch.arange(count) % classes


class Items(Dataset):
    """Inputs and targets as a data set."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]


@pytest.mark.parametrize("wrap", [tuple, lambda pair: Items(*pair), lambda pair: DataLoader(Items(*pair), 8)])
def test_test_inputs_of_another_shape_are_refused_before_any_work(network, wrap):
    data = wrap(examples()), wrap(examples((3, 8, 8)))
    with pytest.raises(DataError, match=r"must run on the test inputs, and fails on one of shape \(3, 8, 8\)"):
        amc.compress(network, data, amc.Budget(flops=0.5), agent="uniform", progress=False)


def test_validation_inputs_of_another_shape_are_refused(network):
    data = examples(), examples((3, 8, 8)), examples()
    with pytest.raises(DataError, match=r"must run on the search inputs.*calibration inputs, \(1, 8, 8\)"):
        amc.compress(network, data, amc.Budget(flops=0.5), agent="uniform", progress=False)


def test_a_class_that_only_the_test_data_has_is_refused(network):
    with pytest.raises(DataError, match="the data has a class 4, but the network has 3 outputs"):
        amc.compress(network, (examples(), examples(classes=5)), agent="uniform", progress=False)


@pytest.mark.parametrize("pack", [tuple, list, lambda parts: dict(zip("ab", parts, strict=True))])
def test_several_inputs_are_explained(pack):
    inputs, targets = examples()
    kind = type(pack((inputs, inputs))).__name__
    with pytest.raises(DataError, match=rf"one tensor, not a {kind} of 2; .* takes an amc.OwnTask in place of data"):
        amc.roles_from_loaders((pack((inputs, inputs)), targets), (inputs, targets))
    loader = DataLoader(Items(inputs, targets), 8)
    with pytest.raises(DataError, match=r"takes an amc.OwnTask in place of data"):
        amc.roles_from_loaders(loader, loader, batch=lambda item: (pack((item[0], item[0])), item[1]))


def test_two_batches_are_no_pair_of_inputs():
    batches = [examples(), examples()]
    assert len(amc.roles_from_loaders(batches, batches).train) == 64


def test_items_of_several_shapes_are_refused():
    inputs, targets = examples()
    ragged = Items([item[..., : 4 + index % 2] for index, item in enumerate(inputs)], targets)
    with pytest.raises(
        DataError, match=r"one shape to be joined in a batch: stack expects .*; bring them to one shape"
    ):
        amc.roles_from_loaders(ragged, ragged)


def test_what_takes_items_apart_must_be_a_function():
    with pytest.raises(ConfigurationError, match=r"batch must be a function of an item .*, not 'image'"):
        amc.roles_from_loaders(examples(), examples(), batch="image")


def test_pictures_of_a_single_class_are_refused(tmp_path, capsys):
    (tmp_path / "all" / "photos" / "cat").mkdir(parents=True)  # the root is a folder too high
    for index in range(12):
        Image.new("L", (8, 8), 20 * index).save(tmp_path / "all" / "photos" / "cat" / f"{index}.png")
    options = ["--data.name", "imagefolder", "--data.root", str(tmp_path / "all"), "--data.cache", "false"]
    assert main(["compress", "--model", "resnet20", *options, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "two classes or more, and the data has one, 'photos'; give the folder that holds one folder for" in said
    assert not (tmp_path / "run").exists()
