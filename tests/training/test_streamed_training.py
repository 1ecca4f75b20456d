"""Training on images that stream from disk: resumed to the bit, and the same as in memory."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image
from torch import nn

from amc.data import DataConfig, StreamedImages, load_data
from amc.training import FineTuneConfig, TrainingHooks, evaluate, fine_tune
from amc.utils.stopping import StopRequested, stopping_safely

QUICK = FineTuneConfig(epochs=2, batch_size=40, learning_rate=0.05, dtype="float32", distillation=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ninety noisy images of two classes, one lighter than the other."""
    root, pixels = tmp_path_factory.mktemp("streamed"), numpy.random.default_rng(0)
    for split, count in (("train", 90), ("test", 16)):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for index in range(count // 2):
                noise = pixels.integers(40 * label, 200 + 40 * label, (11, 13, 3), dtype=numpy.uint8)
                Image.fromarray(noise).save(root / split / name / f"{index}.png")
    return root


def roles(folder, **options):
    options = {"memory": 0.0, "image_size": 8, "search_images": 8, "calibration_images": 8, "workers": 0} | options
    return load_data(DataConfig(name="imagefolder", root=str(folder), cache=False, **options))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 2)
    )


def same(first, second):
    states = first.state_dict().values(), second.state_dict().values()
    return all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_it_ends_where_images_in_memory_do(folder):
    streamed, held = roles(folder, augment="crop_flip", workers=2), roles(folder, memory=0.5, augment="crop_flip")
    assert isinstance(streamed.train, StreamedImages)
    models = network(), network()
    for model, data in zip(models, (streamed, held), strict=True):
        fine_tune(model, data, QUICK, seed=3)
    assert same(*models)
    scores = evaluate(models[0], streamed.test), evaluate(models[1], held.test)
    assert scores[0].cross_entropy == scores[1].cross_entropy


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_signal_within_an_epoch_changes_nothing_nor_do_other_workers_after_it(folder, tmp_path, epoch):
    data, undisturbed, stopped, resumed = roles(folder, augment="resized_crop"), network(), network(), network(9)
    fine_tune(undisturbed, data, QUICK, seed=3)

    def stop(progress):
        if (progress.epoch, progress.step) == (epoch, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    file = tmp_path / "state.pt"
    with stopping_safely(), pytest.raises(StopRequested):
        fine_tune(stopped, data, QUICK, seed=3, hooks=TrainingHooks(on_step=stop), checkpoint=file)
    fine_tune(resumed, roles(folder, augment="resized_crop", workers=2), QUICK, seed=3, checkpoint=file)
    assert same(resumed, undisturbed)


@pytest.mark.parametrize("augment", ["mixup:first=crop_flip", "cutmix:first=resized_crop"])
def test_it_trains_on_mixed_labels(folder, augment):
    data, model, before = roles(folder, augment=augment), network(), network()
    config = replace(QUICK, epochs=1, distillation=0.5, label_smoothing=0.1)
    result = fine_tune(model, data, config, teacher=network(1))
    assert 0 < result.epochs[0].loss < 10
    assert not same(model, before)
