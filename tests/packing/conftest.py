"""A trained network with two fifths of its weights, and one with half of its channels."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import amc
from amc.data import DataConfig, load_data
from amc.pruning.masks import apply_masks, masks_of_zeros
from amc.storage.architecture import describe
from amc.storage.source import ModelSource
from amc.structure.slicing import cut
from amc.training import TrainConfig, fine_tune
from amc.training.objective import AfterStep


@pytest.fixture(scope="session")
def digits():
    return load_data(DataConfig(train_images=600, search_images=100, test_images=200, calibration_images=80))


@pytest.fixture(scope="session", params=["filter", "weight"])
def compressed(request, digits):
    model = amc.create_model("digits_resnet", seed=0, num_classes=10)
    source, structure, kept = ModelSource.of(model), amc.trace_structure(model, torch.zeros(1, 1, 8, 8)), {}
    if request.param == "filter":
        kept = {index: torch.arange(0, structure.groups[index].channels, 2) for index in structure.prunable}
    record = describe(model, structure, kept, source)
    if request.param == "filter":
        cut(model, structure, kept)
    else:
        for layer in structure.layers:
            weight = model.get_parameter(layer.weight).data
            weight[weight.abs() < weight.abs().flatten().quantile(0.6)] = 0
    masks = masks_of_zeros(model)
    zeros = AfterStep(lambda trained: apply_masks(trained, masks))
    fine_tune(model, digits, TrainConfig(epochs=6, batch_size=64, dtype="float32"), device="cpu", terms=[zeros])
    return SimpleNamespace(model=model.eval(), architecture=record)
