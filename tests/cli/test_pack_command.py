"""`amc pack` on the folder of a run: the file, the table, and errors in one line."""

from __future__ import annotations

import json
import re

import pytest
import torch

import amc
from amc.cli.main import main

QUICK = [
    *("--data.train_images", "300", "--data.search_images", "60", "--data.test_images", "60", "--device", "cpu"),
    *("--data.calibration_images", "40", "--train.epochs", "2", "--finetune.epochs", "1", "--pruning.recovery", "none"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "run"
    words = ["--agent", "uniform", "--compare", "none", "--pruning.family", "weight", "--budget.params", "0.3"]
    words += ["--pruning.criterion", "magnitude", "--untrained", "true"]
    assert main(["compress", *QUICK, *words, "--out", str(run)]) == 0
    return run


def test_a_run_is_packed_and_loads_again(folder, capsys):
    assert main(["pack", str(folder), "--conv_bits", "4", "--bits", "conv1=2,layer3.*=3", "--pack_epochs", "1"]) == 0
    printed = capsys.readouterr().out
    file = folder / "model.amcpack"
    accuracies = re.search(r"test accuracy: as it was ([\d.]+), weights shared [\d.]+, .* trained ([\d.]+)", printed)
    assert accuracies is not None
    summary = json.loads((folder / "summary.json").read_text())
    assert float(accuracies[1]) == pytest.approx(summary["accuracy"]["finetuned"], abs=0.01)
    share = re.search(r"([\d.]+)% of the network as it was", printed.replace("\n", " "))
    whole = (folder / "model.safetensors").stat().st_size
    assert float(share[1]) == pytest.approx(100 * file.stat().st_size / whole, abs=0.1)
    loaded, before = amc.load(file), amc.load(folder)
    assert len(loaded.layer3[1].conv1.weight.unique()) <= 9
    assert torch.equal(loaded.layer3[1].conv1.weight == 0, before.layer3[1].conv1.weight == 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--conv_bits", "12"], "conv_bits must be from 1 to 8, not 12"),
        (["--bits", "conv1"], "bits must be PATTERN=N"),
        (["--initialisation", "linaer"], "unknown initialisation 'linaer'; did you mean 'linear'"),
        (["--conv_bit", "3"], "unknown option '--conv_bit'; did you mean '--conv_bits'"),
    ],
)
def test_what_cannot_be_packed_is_one_line(folder, words, message, capsys, tmp_path):
    assert main(["pack", str(folder), *words, "--out", str(tmp_path / "x")]) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert "\n" not in line
    assert not (tmp_path / "x").exists()


def test_a_folder_without_a_network_is_one_line(tmp_path, capsys):
    assert main(["pack", str(tmp_path)]) == 2
    assert "must be a finished run's folder" in capsys.readouterr().err
