"""Settings by the number of images, where the user leaves them open."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from amc.data import DataConfig, load_data, roles_from_loaders
from amc.models import create_model
from amc.training import FineTuneConfig, TrainConfig, evaluate, fine_tune
from amc.training.defaults import default_batch_size, fitted, with_epochs

NORMED = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
PLAIN = nn.Sequential(nn.Conv2d(1, 2, 3))


def roles(images, batch=None):
    data = (torch.zeros(images + 10, 1), torch.arange(images + 10) % 2)
    if batch is not None:
        data = DataLoader(TensorDataset(*data), batch_size=batch, collate_fn=lambda items: default_collate(items))
    return roles_from_loaders(data, data, search=(torch.zeros(10, 1), torch.zeros(10).long()), calibration=None)


@pytest.mark.parametrize(
    ("images", "size"), [(1, 16), (80, 16), (255, 16), (256, 32), (800, 64), (1151, 128), (40_000, 128)]
)
def test_an_epoch_of_few_images_has_steps_all_the_same(images, size):
    assert default_batch_size(images) == size


@pytest.mark.parametrize(
    ("images", "epochs"), [(30, 25), (60, 25), (80, 24), (140, 14), (192, 10), (800, 10), (1150, 10), (40_000, 10)]
)
def test_few_images_are_seen_more_often_for_enough_steps(images, epochs):
    data = roles(images)
    assert with_epochs(FineTuneConfig(), data).epochs == epochs
    assert with_epochs(FineTuneConfig(epochs=3), data).epochs == 3
    assert fitted(FineTuneConfig(), NORMED, data).epochs == epochs


@pytest.mark.parametrize(
    ("images", "epochs"), [(30, 100), (96, 100), (140, 67), (900, 43), (980, 40), (1000, 20), (40_000, 20)]
)
def test_a_training_from_scratch_takes_enough_steps_too(images, epochs):
    data = roles(images)
    assert with_epochs(TrainConfig(), data).epochs == epochs
    assert fitted(TrainConfig(), NORMED, data).epochs == epochs
    assert with_epochs(TrainConfig(epochs=3), data).epochs == 3
    assert with_epochs(TrainConfig(head=("1",)), data).epochs == 20  # the rest is trained


def test_tasks_without_data_have_the_usual_epochs():
    assert with_epochs(TrainConfig(), None).epochs == 20
    assert with_epochs(FineTuneConfig(), None).epochs == 10


def test_many_images_take_the_settings_of_the_published_comparisons():
    data = replace(roles(10), train=torch.utils.data.TensorDataset(torch.zeros(40_000, 1)))
    settings = fitted(FineTuneConfig(), NORMED, data)
    assert (settings.batch_size, settings.learning_rate) == (128, 0.05)
    settings = fitted(TrainConfig(), NORMED, data)
    assert (settings.batch_size, settings.learning_rate) == (128, 0.1)


def test_few_images_and_networks_without_norms_take_smaller_steps():
    few, more = (fitted(FineTuneConfig(), NORMED, roles(count)).learning_rate for count in (80, 1000))
    assert few < more < 0.05
    assert few <= 0.002  # 0.006 cost ResNet-20 eight points
    assert fitted(FineTuneConfig(), PLAIN, roles(80)).learning_rate == pytest.approx(few / 5)
    new_head = fitted(TrainConfig(head=("1",)), NORMED, roles(80))
    assert new_head.learning_rate == few  # its other layers are trained already


def test_what_the_user_says_holds():
    settings = fitted(FineTuneConfig(learning_rate=0.3, batch_size=7), PLAIN, roles(80))
    assert (settings.learning_rate, settings.batch_size) == (0.3, 7)
    assert fitted(FineTuneConfig(), PLAIN, roles(80, batch=9)).batch_size == 9
    loader = DataLoader(TensorDataset(torch.zeros(90, 1), torch.arange(90) % 2), batch_size=11, shuffle=True)
    assert fitted(FineTuneConfig(), PLAIN, roles_from_loaders(loader, loader)).batch_size == 11
    assert fitted(settings, NORMED, roles(8000)) == settings


@pytest.mark.heavy
@pytest.mark.parametrize("images", [100])
def test_a_good_network_is_still_good_after_fine_tuning_on_few_images(images):
    data = load_data(DataConfig(train_images=images, search_images=images // 5, test_images=200))
    whole = load_data(DataConfig())
    model = create_model("digits_resnet", seed=0)
    fine_tune(model, whole, TrainConfig(epochs=4, batch_size=64), device="cpu")
    before = evaluate(model, data.test).accuracy
    fine_tune(model, data, FineTuneConfig(keep="last"), teacher=None, device="cpu")
    assert before > 85
    assert evaluate(model, data.test).accuracy > before - 3
