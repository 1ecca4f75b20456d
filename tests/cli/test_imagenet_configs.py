"""The configurations of the paper's ImageNet runs: their budgets, and that they start on a folder like ImageNet's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

import amc
from amc.cli.main import main
from amc.pruning.schedules import SCHEDULES, Goal
from amc.utils.options import create

NAMES = ("imagenet_mobilenet_v1", "imagenet_mobilenet_v2", "imagenet_resnet50")


def printed(name, capsys):
    assert main(["compress", "--config", name, "--print_config"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return yaml.safe_load(captured.out)


def test_all_of_them_are_here():
    folder = Path(amc.__file__).parents[1] / "configs"
    assert sorted(file.stem for file in folder.glob("imagenet_*.yaml")) == list(NAMES)


@pytest.mark.parametrize(
    ("name", "model", "metric", "share"),
    [
        (NAMES[0], "mobilenet_v1", "flops", 0.5),
        (NAMES[1], "mobilenet_v2", "flops", 0.7),
        (NAMES[2], "resnet50", "params", 0.2),
    ],
)
def test_budgets_are_the_papers(name, model, metric, share, capsys):
    options = printed(name, capsys)
    assert options["model"] == model
    assert {key: value for key, value in options["budget"].items() if value} == {metric: share}
    assert options["data"]["search_images"] == 3000
    assert options["data"]["image_size"] == 224
    assert options["finetune"]["epochs"] >= 30


def test_the_weights_of_resnet50_go_in_the_papers_four_rounds(capsys):
    options = printed("imagenet_resnet50", capsys)
    assert options["pruning"]["family"] == "weight"
    rounds = create(SCHEDULES, options["schedule"]).rounds(Goal(0.2, options["finetune"]["epochs"], 0))
    assert [(step.budget, step.epochs) for step in rounds] == [(0.5, 30), (0.35, 30), (0.25, 30), (0.2, 30)]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Three classes of eight training and three test images of various sizes."""
    root, pixels = tmp_path_factory.mktemp("imagenet"), numpy.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name in ("n01440764", "n01443537", "n01484850"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                noise = pixels.integers(0, 256, (*pixels.integers(60, 90, 2), 3), dtype=numpy.uint8)
                Image.fromarray(noise).save(root / split / name / f"{name}_{index}.JPEG")
    return root


@pytest.mark.slow  # ten seconds or more each
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_on_a_folder_like_imagenets(name, imagenet, tmp_path):
    words = [
        *["compress", "--config", name, "--classes", "3", "--data.root", str(imagenet), "--data.image_size", "64"],
        *["--data.search_images", "6", "--data.calibration_images", "6", "--data.memory", "0", "--data.workers", "0"],
        *[
            "--train.epochs",
            "0",
            "--agent",
            "uniform",
            "--episodes",
            "1",
            "--compare",
            "none",
            "--pruning.min_keep_ratio",
            "0.05",
        ],
        *["--finetune.epochs", "4" if name == NAMES[2] else "1", "--finetune.batch_size", "6"],
        *["--pruning.criterion", "magnitude" if name == NAMES[2] else "l1", "--out", str(tmp_path / "run")],
    ]
    assert main(words) == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    metric, share = ("params", 0.2) if name == NAMES[2] else ("flops", 0.5 if name == NAMES[0] else 0.7)
    assert summary["costs"][metric]["pruned"] <= share * summary["costs"][metric]["dense"]
