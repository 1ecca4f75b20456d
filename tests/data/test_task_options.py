"""Task, loss and metric of a data set by name: `--data.task`, `--data.loss`, `--data.metric`."""

from __future__ import annotations

import json

import pytest

from amc.cli.main import main
from amc.data import DataConfig, load_data
from amc.data.tasks import CLASSIFICATION
from amc.errors import ConfigurationError, UnknownNameError

FEW = {"train_images": 100, "test_images": 30, "calibration_images": 20}
QUICK = [
    "--data.train_images", "100", "--data.test_images", "30", "--data.calibration_images", "20", "--device", "cpu",
    "--train.epochs", "1", "--train.learning_rate", "1e-4", "--finetune.epochs", "0",
    "--agent", "uniform", "--compare", "none", "--untrained", "true",
]  # fmt: skip


def task_of(**options):
    return load_data(DataConfig(**FEW, **options)).task


def test_nothing_said_is_classification_by_accuracy():
    assert task_of() is CLASSIFICATION


def test_names_choose_metric_and_loss():
    task = task_of(metric="balanced_accuracy", loss="cross_entropy")
    assert (task.name, task.metric_name) == ("classification", "balanced_accuracy")
    task = task_of(task="regression", loss="mae", metric="neg_mae")
    assert (task.name, task.metric_name) == ("regression", "neg_mae")


@pytest.mark.parametrize(
    "options", [{"task": "segmentation"}, {"metric": "r2"}, {"metric": "f1"}, {"loss": "mse"}], ids=str
)
def test_what_does_not_fit_the_targets_is_refused_before_anything_starts(options):
    with pytest.raises(
        ConfigurationError, match=r"must fit the targets of digits, and does not: .*; leave one of them out"
    ):
        task_of(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "clasification"}, "unknown task 'clasification'; did you mean 'classification'"),
        ({"loss": "smoth_l1"}, "unknown loss 'smoth_l1'; did you mean 'smooth_l1'"),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; did you mean 'accuracy'"),
    ],
)
def test_unknown_names_are_refused_with_the_near_ones(options, message):
    with pytest.raises(UnknownNameError, match=message):
        DataConfig(**options)


def test_a_command_reports_the_metric_that_was_chosen(tmp_path):
    words = ["compress", *QUICK, "--data.task", "regression", "--classes", "1", "--data.metric", "neg_mae"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    figures = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert figures["metric"] == "mean absolute error times -1"
    assert -9 < figures["accuracy"]["dense"] < 0
