"""`amc profile`, and what the command line says of budgets in time."""

from __future__ import annotations

import shutil

import pytest

from amc.cli.main import main
from amc.latency.profile_file import read_profile, write_profile


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "onnxruntim"], "did you mean 'onnxruntime'"),
        (["--threads", "0"], "--threads must be at least 1, not 0"),
        (["--prepare", "x", "--engine", "torch"], "--prepare writes networks for onnxruntime; leave out --engine"),
        (["--checks", "0"], "needs at least 8 networks to fit and one to check"),
        (["--agent", "ddpg"], "unknown option '--agent'"),
    ],
)
def test_what_is_wrong_is_one_line(words, message, capsys):
    assert main(["profile", "--model", "digits_resnet", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_profile_is_made_and_checked_though_it_is_interrupted(tmp_path, monkeypatch, capsys):
    file = tmp_path / "new" / "p.json"
    options = ["--engine", "torch", "--networks", "12", "--checks", "3", "--rounds", "1"]
    words = ["--model", "digits_resnet", "--pruning.round_to", "8", *options]

    def stop(path, profile):
        write_profile(path, profile)
        if len(profile.networks) == 2:
            shutil.rmtree(path.parent)  # what was measured is kept in memory, and written again
        if len(profile.networks) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("amc.latency.profiling.write_profile", stop)
        assert main(["profile", *words, "--out", str(file)]) == 130
    assert capsys.readouterr().err.endswith(f"amc: interrupted; the same command continues {file}\n")
    assert len(read_profile(file).networks) == 3
    assert main(["profile", *words, "--out", str(file), "--seed", "1"]) == 2
    assert "holds times of other networks than these, such as another --seed draws" in capsys.readouterr().err
    assert main(["profile", *words, "--out", str(file)]) == 0
    said = capsys.readouterr().out
    assert "digits_resnet in torch, dense" in said
    assert "model checked on 3 unseen networks: mean absolute error" in said
    assert "amc compress will refuse it: a profile must be checked on at least 20 unseen networks, not 3" in said
    profile = read_profile(file)
    assert (profile.finished, profile.engine, profile.steps["layer3.0.conv1"]) == (True, "torch", 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget.latency", "0.5"], "a time budget needs a profile of the device"),
        (["--budget.latency", "0.5", "--budget.latency_ms", "3"], "give latency (a share) or latency_ms, not both"),
        (["--budget.latency", "0.5", "--budget.profile", "none.json"], "the profile must be a readable file"),
        (["--budget.memory", "1.5"], "a budget is a share of the dense network in (0, 1] or a whole number"),
        (["--budget.memory", "0.5", "--pruning.family", "weight"], "are for pruning.family filter"),
    ],
)
def test_budgets_that_cannot_be_are_one_line(words, message, tmp_path, capsys):
    assert main(["compress", *words, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert not (tmp_path / "run").exists()
