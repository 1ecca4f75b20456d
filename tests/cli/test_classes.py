"""`--classes`: every command that builds a network says for how many classes; where a network exists it is refused."""

from __future__ import annotations

import pytest

from amc.cli.main import main

DATA = ["--data.train_images", "100", "--data.search_images", "30", "--data.test_images", "30"]
QUICK = ["--agent", "uniform", "--train.epochs", "1", "--finetune.epochs", "0", "--untrained", "true"]
COMMANDS = {
    "evaluate": ["evaluate", *DATA],
    "inspect": ["inspect"],
    "profile": ["profile", "--prepare", "networks", "--networks", "4", "--checks", "1"],
    "compress": ["compress", *DATA, *QUICK, "--out", "run"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_network_with_another_head_is_announced_in_one_line(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--model", "digits_lenet", "--classes", "12"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "--classes" in line]
    assert lines == ["digits_lenet is built for 12 classes (--classes)"]


def test_nothing_is_said_of_the_networks_own_head(capsys):
    assert main(["inspect", "--model", "digits_lenet"]) == 0
    assert "--classes" not in capsys.readouterr().err


def test_a_run_has_its_number_of_classes(error_of, tmp_path):
    folder = str(tmp_path / "run")
    assert main(["compress", "--model", "digits_lenet", *DATA, *QUICK, "--out", folder]) == 0
    assert error_of(["evaluate", folder, "--classes", "3"]).endswith("has its number of classes; leave --classes out")
    assert main(["evaluate", folder]) == 0
