"""One file of options serves all commands: what a command does not use is named, what no command knows is rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import amc
from amc.cli.main import main

CONFIGS = Path(amc.__file__).parents[1] / "configs"


def printed(words, capsys):
    """Returns the options that a command line comes to, and what was said on the way."""
    assert main([*words, "--print_config"]) == 0
    captured = capsys.readouterr()
    return yaml.safe_load(captured.out), captured.err


def test_a_study_says_what_of_a_runs_file_it_ignores(capsys):
    file = CONFIGS / "digits.yaml"
    options, said = printed(["study", "--out", "study", "--config", str(file)], capsys)
    assert said == f"{file}: amc study does not use agent, budget, compare, episodes; ignored\n"
    assert options["finetune"]["epochs"] == 10


def test_a_run_says_what_of_a_studys_file_it_ignores(tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text("agents: [random, cem]\nbudgets: [0.5]\ncounts: [3]\nseed: 7\n")
    options, said = printed(["compress", f"--config={file}"], capsys)
    assert said == f"{file}: amc compress does not use agents, budgets, counts; ignored\n"
    assert options["seed"] == 7
    assert "agents" not in options


def test_single_options_of_a_section_are_named_too(tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("train:\n  epochs: 3\n  distillation: 0.5\n")
    _, said = printed(["compress", "--config", str(file)], capsys)
    assert "amc compress does not use train.distillation" in said


def test_a_file_that_is_used_whole_says_nothing(capsys):
    assert printed(["compress", "--config", str(CONFIGS / "digits.yaml")], capsys)[1] == ""


@pytest.mark.parametrize("command", [["compress"], ["study", "--out", "study"], ["bench"]])
def test_what_no_command_knows_is_refused_with_the_nearest_name(command, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("episods: 3\nagents: [random]\n")
    assert main([*command, "--config", str(tmp_path / "run.yaml")]) == 2
    assert f"{tmp_path / 'run.yaml'}: unknown option 'episods'; did you mean 'episodes'" in capsys.readouterr().err
