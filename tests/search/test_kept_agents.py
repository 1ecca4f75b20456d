"""A search keeps what its agent has learnt, and another search starts from it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import amc
from agents.loading import load_agent
from amc.cli.main import main
from amc.data import DataConfig, load_data
from amc.errors import AmcError, CheckpointError, ConfigurationError
from amc.pipeline.policies import _response
from amc.storage.agent_card import read_card

QUICK = [
    "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "32",
    "--pruning.recovery", "none", "--model", "digits_lenet",  # quicker than the defaults
    "--train.epochs", "1", "--device", "cpu", "--untrained", "true",
]  # fmt: skip
SMALL = "ddpg:hidden=[8, 8];ensemble_hidden=8;gradient_steps=1"


def search(folder, *words, command="search"):
    return main([command, *QUICK, "--out", str(folder), *words])


def episodes(folder):
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "run"
    assert search(folder, "--agent", SMALL, "--episodes", "4", "--features", "budget,depth") == 0
    return folder


def test_the_agent_and_its_card_lie_in_the_folder(searched):
    agent, card = load_agent(searched / "agent.safetensors"), read_card(searched / "agent.json")
    assert (agent.name, card.agent, card.kind, card.episodes) == ("ddpg", "ddpg", "filter", 4)
    assert card.features == list(agent.tasks[0].features)
    assert card.features[-2:] == ["budget", "depth"]
    assert card.feature_count == 13
    (task,) = card.tasks
    assert (task.network, task.metric, task.reward, task.episodes) == ("digits_lenet", "flops", "accuracy", 4)
    assert task.best_reward == max(record["reward"] for record in episodes(searched))
    assert [point.rewards["reward"] for point in card.curve] == [record["reward"] for record in episodes(searched)]


def test_a_search_that_is_resumed_keeps_the_same_bytes(searched, tmp_path):
    before = (searched / "agent.safetensors").read_bytes()
    (searched / "agent.safetensors").unlink()
    assert main(["search", "--out", str(searched), "--resume"]) == 0
    assert (searched / "agent.safetensors").read_bytes() == before


def test_agents_that_learn_nothing_leave_no_file(tmp_path):
    assert search(tmp_path / "run", "--agent", "uniform") == 0
    assert not (tmp_path / "run" / "agent.safetensors").exists()


def test_a_policy_plays_once_without_noise_then_candidates(searched, tmp_path, capsys):
    file = str(searched / "agent.safetensors")
    assert search(tmp_path / "once", "--policy", file, "--episodes", "0", "--budget.flops", "0.6") == 0
    assert search(tmp_path / "more", "--policy", file, "--episodes", "3", "--budget.flops", "0.6") == 0
    once, more = episodes(tmp_path / "once"), episodes(tmp_path / "more")
    assert (len(once), len(more)) == (1, 4)
    assert once[0]["widths"] == more[0]["widths"]
    assert read_card(tmp_path / "more" / "agent.json").feature_count == 13
    capsys.readouterr()
    file = str(tmp_path / "more" / "agent.safetensors")
    words = [*QUICK[:-2], "--budgets", "0.6"]
    assert main(["policy", "show", file, *words]) == 0
    shown = capsys.readouterr().out
    assert "13 features" in shown
    assert "in one episode without noise" in shown


def test_a_policy_that_plays_alone_is_compared_with_as_many_candidates_of_others(searched, tmp_path):
    words = ["--policy", str(searched / "agent.safetensors"), "--episodes", "0", "--budget.flops", "0.6"]
    others = ["--compare", "uniform,random", "--finetune.epochs", "0"]
    assert search(tmp_path / "run", *words, *others, command="compress") == 0
    baselines = json.loads((tmp_path / "run" / "summary.json").read_text())["baselines"]
    assert {name: figures["episodes"] for name, figures in baselines.items()} == {"uniform": 1, "random": 1}


def test_a_policy_is_drawn(searched, tmp_path, capsys):
    words = [*QUICK[:-2], "--budgets", "0.8", "0.5", "--picture", str(tmp_path / "p.png")]
    assert main(["policy", "show", str(searched / "agent.safetensors"), *words]) == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_policy_does_is_read_off_its_function():
    """A policy that removes what its first feature says: the ratio is the value, whatever the states are."""
    seen = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    values = np.linspace(0, 1, 4, dtype=np.float32)
    assert _response(lambda state: float(state[0]), seen, 0, values) == pytest.approx(values)
    assert _response(lambda state: float(state[0]), seen, 1, values) == pytest.approx([seen[:, 0].mean()] * 4)


def test_python_starts_from_a_policy_and_keeps_the_agent(searched, tmp_path):
    digits = load_data(DataConfig(train_images=200, test_images=50, calibration_images=32))
    rules = {"finetune": amc.FineTuneConfig(epochs=0), "device": "cpu"}
    policy = searched / "agent.safetensors"
    model = amc.create_model("digits_lenet", seed=0)
    search = amc.SearchConfig(policy=policy, episodes=1, untrained=True)
    result = amc.compress(model, digits, amc.Budget(flops=0.5), search=search, out=tmp_path / "run", **rules)
    assert len(result.episodes) == 2
    assert load_agent(tmp_path / "run" / "agent.safetensors").tasks[0].features[11:] == ("budget", "depth")
    with pytest.raises(ConfigurationError, match="the features must be those of the policy, budget, depth, not depth"):
        amc.SearchConfig(features=("depth",), policy=policy)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pruning.family", "weight"], "must be of weight pruning, as the task is, not of filter pruning"),
        (["--reward", "agreement"], "must be trained for the reward of the task, 'agreement', not 'accuracy'"),
        (["--agent", "random"], "the policy was trained by ddpg, so that the agent cannot be 'random'"),
        (["--features", "depth"], "the features must be those of the policy, budget, depth, not depth"),
        (["--episodes", "-1"], "episodes must be 0 or more with a policy, not -1"),
    ],
)
def test_a_policy_for_something_else_is_refused_in_one_line(searched, tmp_path, capsys, words, message):
    assert search(tmp_path / "run", "--policy", str(searched / "agent.safetensors"), *words) == 2
    printed = capsys.readouterr().err
    assert message in printed.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_policy_of_another_kind_is_refused_also_where_the_budget_is_out_of_reach(searched, capsys):
    words = ["--model", "digits_lenet", "--pruning.family", "weight", "--metric", "params", "--budgets", "0.01"]
    assert main(["policy", "show", str(searched / "agent.safetensors"), *words]) == 2
    assert "must be of weight pruning, as the task is" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("kind", "weight", "names another kind of pruning: weight in place of filter"),
        ("agent", "sac", "names another agent: sac in place of ddpg"),
        ("features", [f"f{index}" for index in range(13)], "names other features: f0, f1"),
        ("tasks", "agreement", "names other rewards: agreement in place of accuracy"),
    ],
)
def test_a_card_of_another_agent_is_refused_in_one_line(searched, tmp_path, capsys, entry, value, message):
    card = json.loads((searched / "agent.json").read_text())
    card[entry] = [{**card["tasks"][0], "reward": value}] if entry == "tasks" else value
    (tmp_path / "agent.json").write_text(json.dumps(card))
    (tmp_path / "agent.safetensors").write_bytes((searched / "agent.safetensors").read_bytes())
    assert main(["policy", "show", str(tmp_path / "agent.safetensors")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"agent.json must describe agent.safetensors beside it, but {message}" in line
    assert line.endswith("delete it to use the agent alone")


def test_eleven_features_do_not_load_into_thirteen(searched, tmp_path, capsys):
    assert search(tmp_path / "run", "--agent", SMALL, "--episodes", "2") == 0
    from agents.learnt_task import LearntTask

    eleven = load_agent(tmp_path / "run" / "agent.safetensors").tasks[0]
    thirteen = load_agent(searched / "agent.safetensors").tasks[0]
    assert isinstance(eleven, LearntTask)
    with pytest.raises(CheckpointError, match=r"13 features, not 11 \(budget, depth only in one\)"):
        eleven.check_serves(thirteen)


@pytest.mark.parametrize("content", ["{}", "[]", '{"agent": 3}', '{"format": "amc-agent-card-1", "agent": "x"}'])
def test_a_damaged_card_is_refused(tmp_path, content):
    (tmp_path / "agent.json").write_text(content)
    with pytest.raises(CheckpointError, match="must be the card of an agent"):
        read_card(tmp_path / "agent.json")


@pytest.mark.parametrize("name", ["missing.safetensors", "text.safetensors"])
def test_what_is_no_agent_is_refused(tmp_path, capsys, name):
    (tmp_path / "text.safetensors").write_text("hello")
    assert search(tmp_path / "run", "--policy", str(tmp_path / name)) == 2
    assert "cannot read the agent" in capsys.readouterr().err
    with pytest.raises(AmcError, match="cannot read the agent"):
        load_agent(tmp_path / name)
