"""A schedule from the command line: its rounds are in the summary, and a stopped run ends at the same network."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from amc.cli.main import main

QUICK = [
    *("--model", "digits_lenet"),
    *("--agent", "uniform", "--compare", "none", "--budget.flops", "0.4", "--device", "cpu", "--dtype", "float32"),
    *("--data.train_images", "300", "--data.search_images", "60", "--data.test_images", "60"),
    *("--data.calibration_images", "40", "--train.epochs", "2", "--finetune.epochs", "2", "--pruning.recovery", "once"),
]


def test_rounds_run_are_written_and_resume(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["compress", *QUICK, "--schedule", "iterative:count=2", "--out", str(run)]) == 0
    summary, network = json.loads((run / "summary.json").read_text()), load_file(run / "model.safetensors")
    assert [record["epochs"] for record in summary["rounds"]] == [1, 1]
    assert summary["rounds"][0]["cost"] > summary["rounds"][1]["cost"]
    first, second = summary["rounds"]
    assert second["search_before"] == first["search_trained"]
    assert first["stability"] == pytest.approx(100 * first["search_pruned"] / first["search_before"])
    assert summary["stability"] == [first["stability"], second["stability"]]
    assert "pruning stability in 2 rounds, on the search split" in " ".join((run / "summary.txt").read_text().split())
    for name in ("summary.json", "model.safetensors", "architecture.json"):
        (run / name).unlink()
    for state in (run / "checkpoints").glob("*round2*"):  # stopped in the second round
        state.unlink()
    assert main(["compress", "--resume", "--out", str(run)]) == 0
    again = load_file(run / "model.safetensors")
    assert all((again[name] == value).all() for name, value in network.items())
    assert json.loads((run / "summary.json").read_text())["rounds"] == summary["rounds"]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("iterative:count=5", "needs an epoch for each of its 5 rounds, and there are 2"),
        ("iterativ", "unknown pruning schedule 'iterativ'; did you mean 'iterative'"),
    ],
)
def test_a_schedule_that_cannot_be_carried_out_is_one_line(schedule, message, tmp_path, capsys):
    assert main(["compress", *QUICK, "--schedule", schedule, "--out", str(tmp_path / "run")]) != 0
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("amc: ")]
    assert len(error) == 1
    assert message in error[0]
    assert not (tmp_path / "run").exists()
