"""Configurations that travel with the package are found by name."""

import pytest

from amc.cli.main import main
from amc.cli.named_configs import config_names, with_named_configs
from amc.errors import UnknownNameError


def test_a_name_stands_for_the_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    one, other = with_named_configs(["--config", "digits", "--seed", "1"]), with_named_configs(["--config=digits"])
    assert one[1].endswith("configs/digits.yaml")
    assert one[2:] == ["--seed", "1"]
    assert other == [f"--config={one[1]}"]


def test_a_file_of_ones_own_goes_before_a_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("seed: 1\n")
    assert with_named_configs(["--config", "digits"]) == ["--config", "digits"]


def test_paths_and_other_words_stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["--config", "my/digits.yaml", "--model", "digits"]
    assert with_named_configs(words) == words


@pytest.mark.parametrize("option", ["--config", "--variations"])
def test_the_path_in_a_checkout_is_a_name_elsewhere(option, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = [option, "configs/methods_filter.yaml"]
    (file,) = with_named_configs(words)[1:]
    assert file != words[1]
    assert file.endswith("/configs/methods_filter.yaml")
    assert with_named_configs([option, "methods_filter"]) == [option, file]
    assert with_named_configs([option, "configs/mine.yaml"]) == [option, "configs/mine.yaml"]
    (tmp_path / "configs").mkdir()
    (tmp_path / words[1]).write_text("{}\n")
    assert with_named_configs(words) == words, "a file of one's own goes first"


def test_an_unknown_name_tells_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10_resnet56'"):
        with_named_configs(["--config", "cifar10_resnet65"])


def test_every_command_takes_them(capsys):
    assert "digits" in config_names()
    assert main(["compress", "--config", "digits", "--print_config"]) == 0
    assert "model: digits_resnet" in capsys.readouterr().out
