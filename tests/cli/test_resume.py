"""Runs that are interrupted go on, by the command that made them and with the options that they had."""

import json
import shlex

import pytest

import amc
from amc.cli.main import main
from amc.training.checkpoint import save_checkpoint

DATA = ["--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "64"]
QUICK = [*DATA, "--train.epochs", "1", "--finetune.epochs", "0", "--agent", "random", "--compare", "none"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "searched"
    assert main(["search", *QUICK[:-6], "--agent", "random", "--episodes", "2", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def pruned(searched):
    folder = searched.with_name("pruned")
    assert main(["prune", "--policy", str(searched / "policy.json"), "--out", str(folder)]) == 0
    return folder


def interrupt_training(monkeypatch):
    """Presses Ctrl-C when the first epoch is on disk; returns what undoes that."""

    def save(*arguments):
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.training.trainer.save_checkpoint", save)


def hint_of(capsys):
    """Returns the words of the command line that the interruption names."""
    line = capsys.readouterr().err.splitlines()[-1]
    start = "amc: interrupted; go on with: amc "
    assert line.startswith(start)
    return shlex.split(line[len(start) :])


def error_of(words, capsys):
    capsys.readouterr()
    assert main(words) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_an_interrupted_finetune_goes_on_to_the_same_network(pruned, tmp_path, monkeypatch, capsys):
    words = ["finetune", str(pruned), "--finetune.epochs", "2", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        interrupt_training(patch)
        assert main([*words, "--out", str(tmp_path / "in two")]) == 130
    hint = hint_of(capsys)
    assert hint == ["finetune", "--out", str(tmp_path / "in two"), "--resume"]
    assert " ".join(["amc", *map(shlex.quote, hint)]) in error_of([*words, "--out", str(tmp_path / "in two")], capsys)
    assert main(hint) == 0
    assert f"going on with {tmp_path / 'in two'}\n" in capsys.readouterr().err
    expected, found = (amc.load(tmp_path / name).state_dict() for name in ("whole", "in two"))
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    figures = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "in two")]
    assert figures[0]["accuracy"] == figures[1]["accuracy"]


def test_an_interrupted_prune_goes_on(searched, tmp_path, monkeypatch, capsys):
    words = ["prune", "--policy", str(searched / "policy.json"), "--out", str(tmp_path / "pruned")]

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("amc.delivery.Workshop.deliver", stop)
        assert main(words) == 130
    assert main(hint_of(capsys)) == 0
    assert json.loads((tmp_path / "pruned" / "summary.json").read_text())["accuracy"]["pruned"] > 0


def test_another_commands_folder_is_left_alone(pruned, capsys):
    before = {path: path.read_bytes() for path in pruned.iterdir() if path.is_file()}
    for command in ("compress", "search", "finetune"):
        line = error_of([command, "--resume", "--out", str(pruned)], capsys)
        assert f"go on with: amc prune --out {pruned} --resume" in line
    assert {path: path.read_bytes() for path in pruned.iterdir() if path.is_file()} == before


def test_an_interruption_before_a_run_has_begun_promises_nothing(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.cli.setup.load_data", stop)
    assert main(["compress", "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "amc: interrupted\n"


@pytest.mark.parametrize("command", ["compress", "search", "prune", "finetune"])
def test_resume_asks_for_the_folder(command, capsys):
    assert "--resume needs the run's folder: give it with --out" in error_of([command, "--resume"], capsys)
