"""The commands one after another, on a stand-in for CUDA and on the CPU."""

from __future__ import annotations

import json

import pytest

import amc
from amc.cli.main import main

SMALL = [
    "--data.train_images", "400", "--data.test_images", "60", "--data.calibration_images", "60",
    "--train.epochs", "1", "--train.dtype", "float32", "--dtype", "float32",
]  # fmt: skip
# The default criterion and recovery are compared in test_on_cuda.py; on a stand-in its many small steps take long.
SEARCH = ["--agent", "random", "--episodes", "3", "--pruning.criterion", "l2", "--pruning.recovery", "none"]
FINETUNE = ["--finetune.epochs", "1", "--finetune.batch_size", "50", "--finetune.dtype", "float32"]


def by_commands(folder, device):
    """Searches, prunes and fine-tunes by a command each; returns what the last one reports."""
    searched, pruned, finetuned = folder / "searched", folder / "pruned", folder / "finetuned"
    for words in (
        ["search", *SMALL, *SEARCH, "--untrained", "true", "--device", device, "--out", str(searched)],
        ["prune", str(searched), "--out", str(pruned)],
        ["finetune", str(pruned), *FINETUNE, "--out", str(finetuned)],
        ["evaluate", str(finetuned)],
    ):
        assert main(words) == 0, words
    return finetuned


@pytest.mark.heavy
def test_the_commands_on_cuda_end_as_those_on_the_cpu(cuda, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        "amc.pruning.candidate_scorer.images_at_once", lambda *_: 50
    )  # else batches depend on the device
    there, here = by_commands(tmp_path / "there", "cuda"), by_commands(tmp_path / "here", "cpu")
    figures = [json.loads((folder / "summary.json").read_text())["accuracy"] for folder in (there, here)]
    assert figures[0] == pytest.approx(figures[1], abs=1e-3)
    assert not any(tensor.is_cuda for tensor in amc.load(there).state_dict().values())
