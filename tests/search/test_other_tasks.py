"""Other tasks than one class an image: searched, cut, refit and fine-tuned by their own loss and metric."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import amc
from amc.data.tasks.task_type import infer_task
from amc.errors import ConfigurationError, DataError, ModelError

QUICK = {"agent": "random", "episodes": 3, "device": "cpu", "search": amc.SearchConfig(untrained=True)}


def images(count=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tint = torch.randn(count, 3, 1, 1, generator=generator)
    return tint + torch.randn(count, 3, 8, 8, generator=generator)


class Net(nn.Module):
    """Numbers of an image: outputs of a head on the mean of what convolutions see."""

    def __init__(self, outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU())
        self.head = nn.Linear(12, outputs)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Masks(nn.Module):
    """Masks of half the resolution, in a dictionary, as torchvision's segmentation networks return them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1))
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, x):
        x = self.head(torch.relu(self.body(x)))
        return {"out": x, "aux": x}


class Logits(Net):
    """Returns its output as an object, as networks of transformers do."""

    def forward(self, x):
        return SimpleNamespace(logits=super().forward(x), loss=None)


def mean(x):
    return x.mean((1, 2, 3)) + 1


def labels(x):
    return torch.stack([x[:, 0].mean((1, 2)) > 0, x[:, 1].mean((1, 2)) > 0], 1).float()


def shares(x):
    return torch.softmax(5 * x.mean((2, 3)), 1)


def masks(x):
    return x.mean(1).sign().long() + 1


def compressed(network, targets, family="filter", **options):
    torch.manual_seed(0)
    train, test = images(), images(48, seed=1)
    return amc.compress(
        network() if isinstance(network, type) else Net(network),
        ((train, targets(train)), (test, targets(test))),
        amc.Budget(flops=0.5) if family == "filter" else amc.Budget(params=0.5),
        train=amc.TrainConfig(epochs=12, batch_size=16, learning_rate=0.02),
        finetune=amc.FineTuneConfig(epochs=2, batch_size=16, learning_rate=0.005),
        pruning=amc.PruningConfig(family=family, min_keep_ratio=0.1),  # of 36 weights of a head more than one
        **{**QUICK, **options},
    )


@pytest.mark.heavy
@pytest.mark.parametrize("family", ["filter", "weight"])
@pytest.mark.parametrize(
    ("network", "targets", "metric"),
    [
        (1, mean, "coefficient of determination"),
        (2, labels, "F1 of all labels"),
        (3, shares, "top-1"),
        (Masks, masks, "intersection over union"),
    ],
)
def test_every_task_has_its_metric_from_the_search_to_the_report(network, targets, metric, family):
    result = compressed(network, targets, family, agent="uniform")
    assert metric in result.summary["metric"]
    least = {"classification": 70, "regression": 50, "multilabel": 70, "segmentation": 40}
    kind = infer_task(targets(images()))
    assert result.summary["accuracy"]["dense"] > least[kind]
    assert result.summary["accuracy"]["finetuned"] > least[kind]
    assert 0 < result.summary["search"]["best_reward"] <= 1
    if family == "filter":
        assert result.summary["costs"]["flops"]["pruned"] <= result.summary["costs"]["flops"]["dense"] / 2


def test_numbers_are_not_taken_for_classes():
    data = (images(64), torch.rand(64, generator=torch.Generator().manual_seed(0)))
    result = amc.compress(Net(1), (data, data), finetune=amc.FineTuneConfig(epochs=0), **QUICK)
    assert "R2" in result.summary["metric"]
    assert result.summary["accuracy"]["dense"] < 0  # untrained: further off than the mean of the targets


def test_outputs_in_an_object_are_found():
    torch.manual_seed(0)
    x = images()
    data = (x, x.mean((1, 2, 3)).gt(0).long())
    result = amc.compress(Logits(2), (data, data), finetune=amc.FineTuneConfig(epochs=1, batch_size=16), **QUICK)
    assert 0 < result.summary["accuracy"]["finetuned"] <= 100


@pytest.mark.parametrize(
    ("network", "targets", "options", "error", "message"),
    [
        (3, mean, {}, DataError, r"returns \(19, 3\) for targets of shape \(19,\)"),
        (1, masks, {}, DataError, "a segmentation network must return"),
        (2, lambda x: torch.full((len(x),), 2), {}, DataError, "class 2, but the network has 2 outputs"),
        (
            1,
            mean,
            {"search": amc.SearchConfig(reward="agreement")},
            ConfigurationError,
            "where the metric is r2, the reward must be 'accuracy'",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_the_search(network, targets, options, error, message, monkeypatch):
    monkeypatch.setattr("amc.pipeline.job.search_policy", lambda *_, **__: pytest.fail("searched first"))
    with pytest.raises(error, match=message):
        compressed(network, targets, **options)


class Numbers(Dataset):
    """Numbers as targets of which all but one are whole."""

    def __init__(self, odd):
        self.targets = torch.arange(96.0) % 2
        self.targets[odd] = 0.5

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return images()[index], self.targets[index]


@pytest.mark.parametrize("odd", [40, 90])
def test_a_number_among_the_classes_of_a_data_set_is_found_before_the_search(odd, monkeypatch):
    monkeypatch.setattr("amc.pipeline.job.search_policy", lambda *_, **__: pytest.fail("searched first"))
    data = (images(), torch.arange(96) % 2)
    with pytest.raises(DataError, match=r"classes must be whole numbers, not 0\.5; for real numbers give the task"):
        amc.compress(Net(2), (Numbers(odd), data), **QUICK)


def test_an_output_without_a_tensor_of_a_known_name_is_refused():
    class Boxes(Net):
        def forward(self, x):
            y = super().forward(x)
            return {"boxes": y, "scores": y}

    data = (images(), torch.zeros(96).long())
    with pytest.raises(ModelError, match="not a dict with boxes, scores; for other outputs give evaluate and finetune"):
        amc.compress(Boxes(2), (data, data), **QUICK)
