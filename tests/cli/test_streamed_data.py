"""Commands on images that stream from disk."""

from __future__ import annotations

import json

import numpy
import pytest
from PIL import Image

from amc.cli.main import main
from amc.training.checkpoint import save_checkpoint

QUICK = ["--untrained", "true", "--agent", "random", "--episodes", "2", "--compare", "none", "--train.epochs", "1"]
QUICK += ["--pruning.criterion", "l1", "--pruning.recovery", "none"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eighty noisy images of two classes."""
    root, pixels = tmp_path_factory.mktemp("streamed"), numpy.random.default_rng(0)
    for split, count in (("train", 60), ("val", 20)):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for index in range(count // 2):
                noise = pixels.integers(90 * label, 150 + 90 * label, (40, 36, 3), dtype=numpy.uint8)
                Image.fromarray(noise).save(root / split / name / f"{index}.jpg")
    return root


def data(folder, workers=0):
    return [
        *["--data.name", "imagefolder", "--data.root", str(folder), "--data.memory", "0", "--data.image_size", "32"],
        *["--data.search_images", "12", "--data.calibration_images", "12", "--data.workers", str(workers)],
    ]


def results(folder):
    """Returns what a run came to, without times."""
    summary = json.loads((folder / "summary.json").read_text())
    return summary["accuracy"], summary["costs"], (folder / "model.safetensors").read_bytes()


@pytest.mark.slow  # two runs
def test_a_killed_run_ends_at_the_same_bits_with_other_workers(folder, tmp_path, monkeypatch):
    words = ["compress", "--model", "resnet20", *QUICK, "--finetune.epochs", "2", "--data.augment", "resized_crop"]
    assert main([*words, *data(folder), "--out", str(tmp_path / "whole")]) == 0

    def save(*arguments):
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.training.trainer.save_checkpoint", save)
    assert main([*words, *data(folder, 2), "--out", str(tmp_path / "killed")]) == 130
    monkeypatch.undo()
    assert main(["compress", "--resume", "--out", str(tmp_path / "killed")]) == 0
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    assert json.loads((tmp_path / "whole/preprocessing.json").read_text())["class_names"] == ["dark", "light"]


@pytest.mark.slow  # it traces, trains and times networks
def test_a_study_streams(folder, tmp_path):
    words = ["study", "--model", "resnet20", "--agents", "random", "--budgets", "0.5", "--counts", "1", "--seeds", "0"]
    words += [
        "--train.epochs",
        "0",
        "--finetune.epochs",
        "1",
        "--pruning.criterion",
        "l1",
        "--pruning.recovery",
        "none",
    ]
    assert main([*words, *data(folder), "--out", str(tmp_path / "study")]) == 0
    assert main([*words, *data(folder, 2), "--out", str(tmp_path / "study")]) == 0  # other workers, the same study


def test_a_broken_image_ends_in_one_line(folder, tmp_path, error_of):
    (tmp_path / "train").symlink_to(folder / "train")
    for name in ("dark", "light"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "val" / name / "0.jpg")
    (tmp_path / "val/dark/1.jpg").write_bytes(b"no image")
    line = error_of(["evaluate", "--model", "resnet20", "--classes", "2", *data(tmp_path)])
    assert "cannot decode the image" in line
    assert "1.jpg" in line
    assert "data.broken skip" in line
