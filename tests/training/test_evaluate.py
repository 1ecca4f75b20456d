"""Scores of networks whose outputs are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from amc.data import ImageSet
from amc.data.tasks import TASKS
from amc.errors import ConfigurationError, DataError, ModelError
from amc.runtime import resolve_device, resolve_dtype
from amc.training import evaluate, predict, score_logits
from amc.training.evaluate import score_batches


def one_hot_images(classes, scale=1.0):
    """Images of one pixel with as many channels as classes; the network below reads the class off them."""
    targets = torch.tensor(classes)
    return ImageSet(scale * nn.functional.one_hot(targets, 4).float()[:, :, None, None], targets)


def test_score_of_known_logits():
    # Two of three right; cross-entropies log(1 + e^-1), log(1 + e^-1), log(1 + e).
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    score = score_logits(logits, torch.tensor([0, 1, 1]), reference=torch.tensor([0, 0, 0]))
    assert score.accuracy == pytest.approx(200 / 3)
    assert score.cross_entropy == pytest.approx((2 * math.log1p(math.exp(-1)) + math.log1p(math.e)) / 3, abs=1e-7)
    assert score.agreement == pytest.approx(200 / 3)
    assert score.images == 3


@pytest.mark.parametrize("batch_size", [1, 3, 250])
def test_score_does_not_depend_on_the_batches(batch_size):
    data = one_hot_images([0, 1, 2, 3, 3, 1, 0])
    score = evaluate(nn.Flatten(), data, batch_size=batch_size)
    assert (score.accuracy, score.images) == (100.0, 7)
    assert score.cross_entropy == pytest.approx(math.log(math.e + 3) - 1, abs=1e-6)
    assert math.isnan(score.agreement)


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_the_loss_of_masks_is_the_mean_of_all_that_counts_however_they_are_batched(size):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 3, 4, 4, generator=generator)
    masks = torch.randint(0, 3, (6, 4, 4), generator=generator)
    masks[0], masks[2, :3], masks[5] = 255, 255, -100
    found = score_batches(zip(outputs.split(size), masks.split(size), strict=True), TASKS.get("segmentation"))
    counts = (masks >= 0) & (masks < 255)
    expected = nn.functional.cross_entropy(outputs.movedim(1, -1)[counts], masks[counts])
    assert found.cross_entropy == pytest.approx(float(expected), rel=1e-5)
    assert found.images == 6


def test_bfloat16_gives_nearly_the_same():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    nn.init.eye_(model[1].weight)
    data = one_hot_images([0, 1, 2, 3], scale=3.0)
    exact, fast = (evaluate(model, data, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert fast.accuracy == exact.accuracy
    assert fast.cross_entropy == pytest.approx(exact.cross_entropy, rel=0.02)
    logits, _ = predict(model, data, dtype="bfloat16")
    assert logits.dtype == torch.float32


def test_network_is_scored_in_evaluation_mode_and_its_flags_are_restored():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.9))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert evaluate(model, one_hot_images([0, 1, 2])).accuracy == 100.0
    assert (model.training, model[1].training, model[2].training) == (True, False, True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_flags_are_restored_after_an_error():
    model = nn.Linear(99, 1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluate(model, one_hot_images([0]))
    assert model.training


def test_what_cannot_be_scored_is_named():
    with pytest.raises(DataError, match="it is empty"):
        evaluate(nn.Flatten(), one_hot_images([0]).take([]))
    with pytest.raises(DataError, match="class 3, but the network has 2 outputs, for the classes 0 to 1"):
        score_logits(torch.zeros(1, 2), torch.tensor([3]))
    with pytest.raises(ModelError, match="must return logits"):
        evaluate(nn.Identity(), one_hot_images([0]))


def test_devices_and_number_formats():
    cpu = torch.device("cpu")
    assert resolve_device("cpu") == resolve_device(cpu) == cpu
    assert resolve_dtype("float32", cpu) is resolve_dtype(torch.float32, cpu) is torch.float32
    assert resolve_dtype("bfloat16", cpu) is torch.bfloat16
    assert resolve_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    assert resolve_dtype("auto", cpu, (1, 8, 8)) is torch.float32
    with pytest.raises(ConfigurationError, match="must be auto, cpu or cuda, not 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(ConfigurationError, match="must be auto, float32 or bfloat16, not 'half'"):
        resolve_dtype("half", cpu)


def test_absent_accelerator_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(ConfigurationError, match="'cuda' is not available"):
        resolve_device("cuda")


def test_large_images_are_run_a_few_at_a_time():
    seen = []

    class Network(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x.mean((2, 3))

    images = torch.rand(20, 3, 224, 224)
    evaluate(Network(), ImageSet(images, torch.zeros(20, dtype=torch.int64)))
    assert seen == [8, 8, 4]
