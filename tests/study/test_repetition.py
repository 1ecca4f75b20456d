"""The report of a study says how to repeat it: the command, and what it was begun on."""

import json
import shlex

import pytest
import yaml

from agents import AGENTS, create_agent
from agents.guides import START_FROM_HEURISTICS
from amc.cli.main import main
from amc.models import create_model
from amc.storage.save import save_weights
from amc.study.page import _starts, page_of_study
from amc.study.repetition import command_of

SMALL = {"train_images": 200, "test_images": 50, "calibration_images": 32}
QUICK = [*(f"--data.{name}={count}" for name, count in SMALL.items()), "--device=cpu", "--model=digits_lenet"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study of a network with random weights, which takes seconds."""
    place = tmp_path_factory.mktemp("repetition")
    save_weights(place / "w.safetensors", create_model("digits_lenet", seed=0))
    words = ["--weights", str(place / "w.safetensors"), "--out", str(place / "study"), "--agents", "uniform", "random"]
    assert main(["study", *QUICK, *words, "--budgets", "0.6", "--counts", "2", "--seeds", "0"]) == 0
    return place / "study"


def test_the_command_of_the_report_gives_the_same_rules_and_cells(studied, capsys):
    section = page_of_study(studied).sections[-1]
    (command,) = section.commands
    assert section.title == "How to repeat it"
    name, *words = shlex.split(command)
    assert name == "amc"
    assert main([*words, "--print_config"]) == 0
    given, rules = yaml.safe_load(capsys.readouterr().out), yaml.safe_load((studied / "config.yaml").read_text())
    assert {name: given[name] for name in ("agents", "budgets", "counts", "seeds", "metric", "out")} == {
        "agents": ["uniform", "random"],
        "budgets": [0.6],
        "counts": [2],
        "seeds": [0],
        "metric": "flops",
        "out": "ANOTHER_FOLDER",
    }
    same = ("model", "weights", "seed", "device", "pruning", "finetune")
    assert {name: given[name] for name in same} == {name: rules[name] for name in same}


def test_the_report_says_what_the_study_was_begun_on(studied):
    begun = json.loads((studied / "environment.json").read_text())
    words = page_of_study(studied).sections[-1].paragraphs
    assert f"Begun on: device cpu, {begun['processor']}, threads {begun['threads']}." in words
    assert any(f"torch {begun['versions']['torch']}" in line for line in words)


def test_a_study_that_is_continued_elsewhere_says_how_it_differs(studied, capsys):
    file = studied / "environment.json"
    kept = file.read_text()
    file.write_text(json.dumps({**json.loads(kept), "device": "cuda (another)"}))
    again = ["study", "--config", str(studied / "config.yaml"), "--out", str(studied), "--agents", "uniform"]
    try:
        assert main([*again, "--budgets", "0.6"]) == 0
        assert "the study was begun with device cuda (another), not cpu: scores may differ" in capsys.readouterr().err
        file.write_text("{}")
        assert main([*again, "--budgets", "0.6"]) == 2
        assert "must say what the study was begun on" in capsys.readouterr().err
    finally:
        file.write_text(kept)


def test_options_that_were_not_used_are_left_out_of_the_command(tmp_path):
    record = {"agent": "ddpg:warm_start=[]", "budget": 0.5, "episodes": 1, "seed": 3, "metric": "flops"}
    tuned = {**record, "budget": 0.3, "finetuned": 90.0, "latency_ms": {"ratio": 0.9}}
    start = (
        f"amc study --config {tmp_path}/config.yaml --out ANOTHER_FOLDER --agents 'ddpg:warm_start=[]' --metric flops"
    )
    assert command_of(tmp_path, [record]) == f"{start} --budgets 0.5 --counts 1 --seeds 3"
    both = f"{start} --budgets 0.5 0.3 --counts 1 --seeds 3 --finetuned 0.3 --latency true"
    assert command_of(tmp_path, [record, tuned]) == both


def test_the_agents_that_the_report_says_start_alike_do():
    def starts_alike(agent):
        return getattr(getattr(agent, "config", agent), "warm_start", ()) is None

    names = set(AGENTS.names()) - {"policy"}  # needs a file, and searches nothing
    assert {name for name in names if starts_alike(create_agent(name))} == set(START_FROM_HEURISTICS)


def test_the_report_names_them():
    (words,) = _starts(["uniform", "cem", "ddpg:episodes=4", "ddpg:warm_start=[]"])
    assert words.startswith("cem, ddpg:episodes=4: the allocations of the same heuristics are played first")
    assert _starts(["uniform", "random"]) == []
