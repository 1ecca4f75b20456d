"""The agent as a whole: it learns, it can be kept, and it can be applied elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from agents import create_agent
from agents.ddpg import DDPGConfig
from agents.ddpg.agent import DDPGAgent, guides
from agents.episodes import ratios_of
from amc.costs import Budget
from amc.errors import CheckpointError, ConfigurationError, UnknownNameError
from amc.problem.evaluator import FunctionEvaluator

SHORT = {"warmup_episodes": 3, "hidden": (16, 16), "gradient_steps": 2, "ensemble": 2, "ensemble_hidden": 8}


def mean_best(toys, name, episodes, **options):
    env = [toys.wide_env("project", decisions=8) for _ in range(2)]
    return np.mean([create_agent(name, **options).search(env[s], episodes, seed=s).best.reward for s in range(2)])


@pytest.mark.slow  # that it learns is seen below, too
def test_ddpg_learns_and_beats_chance_by_far(toys):
    best_of_many = mean_best(toys, "random", 400)
    assert mean_best(toys, "ddpg", 40) > best_of_many > mean_best(toys, "random", 40)


@pytest.mark.heavy
def test_ddpg_finds_the_known_best_policy_and_its_own_is_near_it(toys):
    agent, env = create_agent("ddpg"), toys.small_env("project")
    outcome = agent.search(env, 40, seed=0)
    assert outcome.best.reward == pytest.approx(env.reward_of(env.best()))
    assert agent.act(env).reward > 0.97 * env.reward_of(env.best())


@pytest.mark.parametrize("critic", ["step", "episode"])
def test_the_numbers_that_the_callers_networks_are_made_of_do_not_matter(toys, critic):
    searched = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            outcome = create_agent("ddpg", critic=critic, **SHORT).search(toys.small_env(), 8, seed=0)
            assert torch.get_default_dtype() == dtype
        finally:
            torch.set_default_dtype(torch.float32)
        searched.append([episode.allocation for episode in outcome.episodes])
    assert searched[0] == searched[1]


def test_a_search_leaves_nothing_in_the_folder_for_temporary_files(toys, tmp_path, monkeypatch):
    agent = create_agent("ddpg", **SHORT)
    agent.search(toys.small_env(), 5, seed=0)  # PyTorch makes a folder there when a process takes its first step
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    agent.search(toys.small_env(), 5, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_papers_settings_learn_too(toys):
    rewards = [e.reward for e in create_agent("ddpg", preset="paper").search(toys.wide_env(), 300, seed=0).episodes]
    chance = np.array(rewards[:100])  # the warm-up is uniformly random
    error = chance.std() * (1 / 20 + 1 / 100) ** 0.5  # of the difference of two means, if nothing were learnt
    assert np.mean(rewards[-20:]) > chance.mean() + 4 * error


@pytest.mark.parametrize("critic", ["step", "episode"])
def test_a_saved_agent_acts_as_the_one_that_was_saved(toys, tmp_path, critic):
    agent = create_agent("ddpg", critic=critic, **SHORT)
    env = toys.small_env()
    agent.search(env, 8, seed=0)
    agent.save(tmp_path / "agent.safetensors")
    loaded = DDPGAgent.load(tmp_path / "agent.safetensors")
    assert loaded.config == agent.config
    assert loaded.act(env).allocation == agent.act(env).allocation
    assert loaded.initial.baseline == agent.trained.baseline
    assert loaded.initial.tensors.keys() == agent.trained.tensors.keys()
    for name, tensor in agent.trained.tensors.items():
        assert torch.equal(loaded.initial.tensors[name], tensor), name


@pytest.mark.parametrize("critic", ["step", "episode"])
def test_training_goes_on_from_what_was_learnt(toys, critic):
    first = create_agent("ddpg", critic=critic, **SHORT)
    first.search(toys.small_env(), 8, seed=0)
    second = DDPGAgent(first.config, first.trained)
    played = [e.reward for e in second.search(toys.small_env(), 4, seed=1).episodes]
    assert second.trained.updates > first.trained.updates
    assert len(second.trained.tensors["replay.rewards"]) == 3 * (8 + 4)
    before = {name: tensor.clone() for name, tensor in first.trained.tensors.items()}
    assert played == [e.reward for e in second.search(toys.small_env(), 4, seed=1).episodes]  # starts from `initial`
    assert all(torch.equal(before[name], tensor) for name, tensor in first.trained.tensors.items())


@pytest.mark.parametrize("critic", ["step", "episode"])
def test_a_policy_moves_to_a_network_of_another_depth(toys, critic):
    agent = create_agent("ddpg", critic=critic, **SHORT)
    agent.search(toys.small_env(), 8, seed=0)
    deeper = toys.wide_env(decisions=7)
    assert len(agent.act(deeper).allocation.key()) == 7
    continued = DDPGAgent(agent.config, agent.trained)
    assert len(continued.search(deeper, 3, seed=0).episodes) == 3
    assert len(continued.trained.tensors["replay.rewards"]) == 3 * 7  # rewards of another network are not kept


@pytest.mark.parametrize("change", [{"decisions": 7}, {"budget": 0.3}])
def test_another_task_has_a_warmup_around_the_policy_and_a_replay_of_its_own(toys, change):
    agent = create_agent("ddpg", warmup_episodes=6, warmup_fraction=1.0, warm_start=("uniform",), gradient_steps=2)
    agent.search(toys.wide_env("project", decisions=3), 8, seed=0)
    env = toys.wide_env("project", decisions=change.get("decisions", 3))
    if "budget" in change:
        env.problem = replace(env.problem, budget=Budget(flops=change["budget"]))
    moved = DDPGAgent(agent.config, agent.trained)
    played = moved.search(env, 8, seed=1).episodes
    assert played[0].allocation == agent.act(env).allocation
    assert played[1].allocation == create_agent("uniform").search(env, 1, seed=0).best.allocation
    assert len(moved.trained.tensors["replay.rewards"]) == 8 * len(env.problem.decisions)
    assert moved.trained.updates == 2 * 3  # after the sixth, seventh and eighth episode


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("reward_name", "other", "trained for the reward of the task, 'other', not ''"),
        ("feature_names", tuple("abcdefghijklmn"), "14 features, not 11"),
        ("problem", "weight", "of weight pruning, as the task is, not of filter pruning"),
    ],
)
def test_a_task_of_another_kind_state_or_reward_is_refused(toys, name, value, message):
    agent = create_agent("ddpg", **SHORT)
    agent.search(toys.small_env(), 4, seed=0)
    env = toys.small_env()
    setattr(env, name, replace(env.problem, kind="weight") if name == "problem" else value)
    with pytest.raises(CheckpointError, match=message):
        agent.act(env)
    with pytest.raises(CheckpointError, match=message):
        DDPGAgent(agent.config, agent.trained).search(env, 4, seed=0)


def test_learning_starts_as_soon_as_the_warmup_is_over(toys):
    agent = create_agent("ddpg", warmup_episodes=6, warmup_fraction=1.0, gradient_steps=2)
    agent.search(toys.small_env(), 8, seed=0)
    assert agent.trained.updates == 2 * 3


@pytest.mark.parametrize("critic", ["step", "episode"])
@pytest.mark.parametrize("decisions", [3, 7])
@pytest.mark.parametrize("environments", [1, 2])
def test_training_goes_on_with_what_the_policy_does_as_it_is(toys, critic, decisions, environments):
    agent = create_agent("ddpg", critic=critic, environments=environments, **SHORT)
    agent.search(toys.wide_env("project", decisions=3), 8, seed=0)
    env = toys.wide_env("project", decisions=decisions)
    as_it_is = agent.act(env)
    outcome = DDPGAgent(agent.config, agent.trained).search(env, 6, seed=1)
    assert outcome.episodes[0].allocation == as_it_is.allocation
    assert outcome.best.reward >= as_it_is.reward
    assert len({e.allocation.key() for e in outcome.episodes}) > 1


@pytest.mark.heavy
def test_what_was_learnt_on_one_budget_helps_on_another(toys):
    agent = create_agent("ddpg")
    agent.search(toys.wide_env("project", decisions=10), 30, seed=0)
    tighter = toys.wide_env("project", decisions=10)
    tighter.problem = toys.toy_problem([d.flops // 32 for d in tighter.problem.layers], size=32, budget=0.4)
    uniform = create_agent("uniform").search(tighter, 1, seed=0).best.reward
    assert agent.act(tighter).reward > uniform


def test_heuristics_are_played_first_and_count(toys):
    names = ("uniform", "erk", "deep")
    outcome = create_agent("ddpg", warm_start=names, **SHORT).search(toys.small_env(), 6, seed=0)
    alone = [create_agent(name).search(toys.small_env(), 1, seed=0).best.allocation for name in names]
    assert [e.allocation for e in outcome.episodes[:3]] == alone
    assert len(outcome.episodes) == 6


@pytest.mark.parametrize(("kind", "knows"), [("weight", True), ("weight", False), ("filter", True)])
def test_unless_named_those_are_played_first_that_suit_the_problem_and_the_evaluator(toys, kind, knows):
    env = toys.small_env()
    env.problem = replace(env.problem, kind=kind)
    known = {decision.name: np.arange(decision.size, dtype=float) for decision in env.problem.decisions}
    errors = {name: -np.arange(len(scores) + 1.0) for name, scores in known.items()}
    evaluator = SimpleNamespace(saliency=lambda criterion: known, errors=lambda: errors)
    env.evaluator = evaluator if knows else FunctionEvaluator(lambda allocation: None)
    names = {"weight": ("uniform", "erk", "lamp", "global", "dp"), "filter": ("uniform", "erk", "shallow", "deep")}
    names = names[kind] if knows else ("uniform", "erk")
    alone = [ratios_of(env, create_agent(name).plan(env, 1)) for name in names]
    assert np.array_equal(guides(env, DDPGConfig()), alone)
    if not knows:
        with pytest.raises(ConfigurationError, match="knows no"):
            guides(env, DDPGConfig(warm_start=("dp",)))


def test_only_heuristics_can_be_played_first(toys):
    with pytest.raises(ConfigurationError, match="warm_start takes heuristics such as 'uniform', not 'random'"):
        create_agent("ddpg", warm_start=("random",)).search(toys.small_env(), 2, seed=0)
    with pytest.raises(UnknownNameError, match="did you mean 'erk'"):
        create_agent("ddpg", warm_start=("erks",)).search(toys.small_env(), 2, seed=0)


def test_an_agent_that_has_learnt_nothing_cannot_be_used(toys, tmp_path):
    with pytest.raises(ConfigurationError, match="must learn before it is used"):
        DDPGAgent().act(toys.small_env())
    with pytest.raises(ConfigurationError, match="must learn before it is used"):
        DDPGAgent().save(tmp_path / "agent.safetensors")


def test_files_that_hold_no_agent_are_refused(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(CheckpointError, match="cannot read the agent"):
        DDPGAgent.load(path)
    path.write_bytes(b"nonsense" * 10)
    with pytest.raises(CheckpointError, match="cannot read the agent"):
        DDPGAgent.load(path)
    save_file({"x": torch.zeros(1)}, str(path))
    with pytest.raises(CheckpointError, match="must be a trained agent"):
        DDPGAgent.load(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda record: [], "must be a trained agent"),
        (lambda record: {**record, "config": None}, "must hold what DDPGAgent.save writes"),
        (lambda record: {**record, "updates": "many"}, "updates must be a whole number"),
        (lambda record: {**record, "baseline": "x"}, "baseline must be a number"),
        (
            lambda record: {**record, "task": {**record["task"], "kind": "neuron"}},
            r"writes, but: an agent must be of filter or weight pruning, not of 'neuron'$",
        ),
        (
            lambda record: {name: value for name, value in record.items() if name != "task"},
            "writes, but: 'task' is missing$",
        ),
    ],
)
def test_damaged_headers_are_refused(toys, tmp_path, damage, message):
    path = tmp_path / "agent.safetensors"
    agent = create_agent("ddpg", **SHORT)
    agent.search(toys.small_env(), 4, seed=0)
    agent.save(path)
    with safe_open(str(path), framework="pt") as file:
        record = json.loads(file.metadata()["agent"])
        del record["tensors_sha256"]  # an attacker would renew it
    save_file(agent.trained.tensors, str(path), metadata={"agent": json.dumps(damage(record))})
    with pytest.raises(CheckpointError, match=message):
        DDPGAgent.load(path)


def test_an_agent_without_its_replay_is_refused(toys, tmp_path):
    agent = create_agent("ddpg", **SHORT)
    agent.search(toys.small_env(), 4, seed=0)
    tensors = {name: value for name, value in agent.trained.tensors.items() if name != "replay.rewards"}
    replace(agent.trained, tensors=tensors).save(tmp_path / "agent.safetensors")
    with pytest.raises(CheckpointError, match=r"replay\.rewards"):
        DDPGAgent.load(tmp_path / "agent.safetensors")


def test_a_state_of_other_networks_is_refused(toys):
    agent = create_agent("ddpg", **SHORT)
    agent.search(toys.small_env(), 4, seed=0)
    with pytest.raises(CheckpointError, match=r"hidden=\(16, 16\), .* not hidden=\(8,\)"):
        DDPGAgent(DDPGConfig(hidden=(8,)), agent.trained).search(toys.small_env(), 1, seed=0)


def test_the_file_names_its_options_in_plain_json(toys, tmp_path):
    agent = create_agent("ddpg", **SHORT)
    agent.search(toys.small_env(), 4, seed=0)
    agent.save(tmp_path / "agent.safetensors")
    with safe_open(str(tmp_path / "agent.safetensors"), framework="pt") as file:
        assert '"warmup_episodes": 3' in file.metadata()["agent"]


def test_the_registry_loads_neither_sb3_nor_gymnasium_nor_optuna():
    code = (
        "import sys, agents; agents.create_agent('uniform'); import agents.ddpg.config;"
        "print(sorted({'stable_baselines3', 'gymnasium', 'optuna', 'cmaes'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("critic", ["episode", "step"])
def test_every_episode_says_what_was_learnt_and_asking_changes_nothing(toys, critic, monkeypatch):
    agent = create_agent("ddpg", critic=critic, **SHORT)
    env = toys.wide_env("clip", decisions=4)
    told = agent.search(env, 8, seed=0)
    assert told.episodes[0].learning.ratios == ()
    last = told.episodes[-1].learning
    assert len(last.ratios) == 4
    assert all(0 <= ratio <= 1 for ratio in last.ratios)
    assert last.actor_loss is not None
    assert last.critic_loss >= 0
    monkeypatch.setattr("agents.ddpg.algorithm.AllocationDDPG.learning", lambda self: None)
    silent = create_agent("ddpg", critic=critic, **SHORT).search(env, 8, seed=0)
    assert [e.allocation for e in silent.episodes] == [e.allocation for e in told.episodes]


def test_the_actor_without_noise_is_the_one_that_acts_after_the_search(toys):
    env = toys.wide_env("project", decisions=4)
    agent = create_agent("ddpg", **{**SHORT, "gradient_steps": 0})
    assert agent.search(env, 6, seed=0).episodes[-1].learning.actor_loss is None
