"""Lists and bounds as the command line, a YAML file and Python write them."""

from __future__ import annotations

import pytest
import yaml

from amc.cli.main import main
from amc.cli.spelling import listed, ratio_bounds, read_spellings
from amc.errors import ConfigurationError
from amc.pruning import PruningConfig

PRINTED = {
    "compare": ["uniform", "cem"],
    "exclude": ["conv1", "layer1.*"],
    "bounds": {"layer2.*": [0.0, 0.5], "layer3.*": [0.2, 0.9]},
}


def printed(capsys, *words):
    assert main(["compress", *words, "--print_config"]) == 0
    return read_spellings(yaml.safe_load(capsys.readouterr().out))


def check(config):
    pruning = PruningConfig(exclude=config["pruning"]["exclude"], bounds=config["pruning"]["bounds"])
    assert list(config["compare"]) == PRINTED["compare"]
    assert pruning.exclude == ("conv1", "layer1.*")
    assert pruning.bounds == {"layer2.*": (0.0, 0.5), "layer3.*": (0.2, 0.9)}


def test_the_command_line_separates_by_commas(capsys):
    words = ["--compare", "uniform, cem", "--pruning.exclude", "conv1,layer1.*"]
    check(printed(capsys, *words, "--pruning.bounds", "layer2.*=0:0.5,layer3.*=0.2:0.9"))


@pytest.mark.parametrize("natural", [True, False])
def test_a_file_takes_both_forms(tmp_path, capsys, natural):
    file = tmp_path / "run.yaml"
    text = {"compare": "uniform,cem", "exclude": "conv1,layer1.*", "bounds": "layer2.*=0:0.5,layer3.*=0.2:0.9"}
    values = PRINTED if natural else text
    pruning = {name: values[name] for name in ("exclude", "bounds")}
    file.write_text(yaml.safe_dump({"compare": values["compare"], "pruning": pruning}))
    check(printed(capsys, "--config", str(file)))


def test_lists():
    assert listed("a, b,,c ") == ("a", "b", "c")
    assert listed("none") == listed("") == ()
    assert listed("ddpg:hidden=[30, 20];critic=step,'a,b',c") == ("ddpg:hidden=[30, 20];critic=step", "'a,b'", "c")


@pytest.mark.parametrize("text", ["layer1", "=0:1", "a=0", "a=0:b", "a=0:1:2"])
def test_malformed_bounds_are_refused(text):
    with pytest.raises(ConfigurationError, match=r"must be PATTERN=MIN:MAX with 0 <= MIN <= MAX <= 1, not"):
        ratio_bounds(text)
