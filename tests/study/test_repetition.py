"""The report of a study says how to repeat it: the command, and what it was begun on."""

import json
import shlex
from dataclasses import asdict, replace

import pytest
import torch
import yaml

from agents import AGENTS, create_agent
from agents.guides import START_FROM_HEURISTICS
from amc.cli.main import main
from amc.models import create_model
from amc.pipeline.environment import Environment
from amc.storage.save import save_weights
from amc.study.environments import LaterEnvironment, keep_environment, later_environments
from amc.study.page import _starts, page_of_study
from amc.study.repetition import command_of
from amc.utils.json_lines import line_of

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


@pytest.fixture
def elsewhere(studied):
    """The study, as if it had been begun on another device; returns the command that continues it."""
    file, later = studied / "environment.json", studied / "environments.jsonl"
    kept = file.read_text()
    file.write_text(json.dumps({**json.loads(kept), "device": "cuda (another)"}))
    yield ["study", "--config", str(studied / "config.yaml"), "--out", str(studied), "--agents", "uniform"]
    file.write_text(kept)
    later.unlink(missing_ok=True)


def test_a_study_that_is_continued_elsewhere_says_how_it_differs(studied, elsewhere, capsys):
    again = [*elsewhere, "--budgets", "0.6"]
    for _ in range(2):
        assert main(again) == 0
        assert "the study was begun with device cuda (another), not cpu: scores may differ" in capsys.readouterr().err
    assert [each.after for each in later_environments(studied)] == [2]
    words = page_of_study(studied).sections[-1].paragraphs
    assert "Continued after 2 results elsewhere; the study was begun with device cuda (another), not cpu." in words


def test_a_study_that_returns_says_so(studied, elsewhere):
    assert main([*elsewhere, "--budgets", "0.6"]) == 0
    file = studied / "environment.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "device": "cpu"}))
    with (studied / "environments.jsonl").open("a") as lines:
        other = asdict(LaterEnvironment(2, replace(Environment.read(studied), device="cuda (another)")))
        lines.write(line_of(other))
    assert main([*elsewhere, "--budgets", "0.6"]) == 0
    assert "Continued after 2 results where the study was begun." in page_of_study(studied).sections[-1].paragraphs


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("environment.json", "{}", "must say what the study was begun on"),
        ("environments.jsonl", '{"after": "two"}\n', "must say what the study was continued on"),
        (
            "environments.jsonl",
            '{"after": 2, "environment": {"device": "cpu", "threads": 0}}\n',
            "threads must be from",
        ),
    ],
)
def test_a_damaged_environment_is_said_in_one_line(studied, elsewhere, capsys, name, content, message):
    (studied / name).write_text(content)
    assert main([*elsewhere, "--budgets", "0.6"]) == 2
    assert message in capsys.readouterr().err


def test_a_study_without_results_was_begun_where_it_is_begun_again(tmp_path):
    here = Environment.here(torch.device("cpu"), torch.get_num_threads())
    replace(here, threads=1023).write(tmp_path)
    (tmp_path / "environments.jsonl").write_text("{}")
    said = []
    keep_environment(tmp_path, "cpu", said.append)
    assert (Environment.read(tmp_path), later_environments(tmp_path), said) == (here, [], [])


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
