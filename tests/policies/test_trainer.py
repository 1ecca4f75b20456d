"""One policy over several tasks: it learns, and continues to the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.agent_file import read_agent, write_agent
from agents.ddpg.agent import DDPGAgent
from agents.ddpg.config import DDPGConfig
from agents.ddpg.policy_state import PolicyState
from agents.ddpg.trainer import PolicyTrainer
from agents.loading import load_agent
from amc.errors import CheckpointError, ConfigurationError

SHORT = DDPGConfig(
    hidden=(16, 16), ensemble=2, ensemble_hidden=8, gradient_steps=2, warmup_episodes=3, warm_start=("uniform",)
)


def tasks(toys, mode="project"):
    """Two networks of different depth, at two budgets each."""
    found = {}
    for depth in (3, 5):
        for budget in (0.6, 0.4):
            env = toys.wide_env(mode, decisions=depth)
            env.problem = toys.toy_problem([d.flops // 32 for d in env.problem.layers], size=32, budget=budget)
            found[f"net{depth} {budget}"] = env
    return found


def trained(toys, episodes, state=None, config=SHORT, plan=40):
    trainer = PolicyTrainer(tasks(toys), config, episodes=plan, seed=3, state=state)
    played = [trainer.play() for _ in range(episodes)]
    return trainer, [(name, result.allocation) for name, result in played]


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_training_continues_from_its_checkpoint_to_the_same_bits(toys, tmp_path):
    whole, played = trained(toys, 24)
    half, first = trained(toys, 11)
    half.state().save(tmp_path / "checkpoint.safetensors")
    torch.manual_seed(77), np.random.seed(7)
    rest, second = trained(toys, 13, PolicyState.load(tmp_path / "checkpoint.safetensors"))
    assert first + second == played
    for name, part in whole.state().parts.items():
        assert same(part.tensors, rest.state().parts[name].tensors)
    assert whole.played == rest.played


@pytest.mark.heavy
def test_replays_that_are_full_continue_to_the_same_bits_too(toys, tmp_path):
    config = DDPGConfig(**{**SHORT.__dict__, "replay_episodes": 4})
    whole, played = trained(toys, 20, config=config)[0], []
    for state in (None, 1):
        trainer = PolicyTrainer(tasks(toys), config, episodes=40, seed=3)
        for _ in range(24):
            trainer.play()
        trainer.state().save(tmp_path / "c.safetensors")
        if state:
            trainer = PolicyTrainer(
                tasks(toys), config, episodes=40, seed=3, state=PolicyState.load(tmp_path / "c.safetensors")
            )
        played.append([trainer.play()[1].allocation for _ in range(8)])
    assert played[0] == played[1]
    assert max(whole.played.values()) > 4


def test_every_task_is_seen_and_all_have_one_actor(toys):
    trainer, _ = trained(toys, 24)
    assert min(trainer.played.values()) >= 4
    parts = trainer.state().parts
    first = next(iter(parts.values())).tensors
    for part in parts.values():
        assert torch.equal(part.tensors["policy.actor.mu.0.weight"], first["policy.actor.mu.0.weight"])
    assert len({part.tensors["episode-critic.additive"].shape for part in parts.values()}) == 2


@pytest.mark.heavy
def test_the_task_that_lags_is_drawn_more_often(toys):
    trainer, _ = trained(toys, 20)
    names = list(trainer.played)
    for name in names:  # every task has been played as well as it can, but one
        replay = trainer._learners[name].replay_buffer
        replay.rewards[: replay.size()] = 1.0
        replay.rewards[:5] = 0.9
    replay = trainer._learners[names[2]].replay_buffer
    replay.rewards[: replay.size()] = 0.0
    replay.rewards[:5] = 1.0
    drawn = [trainer._next(np.random.default_rng(seed)) for seed in range(400)]
    counts = {name: drawn.count(name) for name in names}
    assert counts[names[2]] > 1.3 * max(counts[name] for name in names if name != names[2])
    assert min(counts.values()) > 20


@pytest.mark.slow
def test_it_plays_better_than_uniform_on_a_budget_and_a_network_that_it_has_not_seen(toys):
    config = DDPGConfig(warmup_episodes=6)
    trainer = PolicyTrainer(tasks(toys), config, episodes=200, seed=0)
    for _ in range(200):
        trainer.play()
    env = toys.wide_env("project", decisions=4)
    uniform = env.reward_of(env.problem.project([1.0] * 4))
    assert trainer.act(env).reward > uniform


@pytest.mark.heavy
def test_a_policy_is_an_agent_that_searches_start_from(toys, tmp_path):
    trainer, _ = trained(toys, 20)
    trainer.state().save(tmp_path / "agent.safetensors")
    agent = load_agent(tmp_path / "agent.safetensors")
    known, new = tasks(toys)["net5 0.4"], toys.wide_env("project", decisions=4)
    for env in (known, new):
        first = agent.search(env, 4, seed=0).episodes[0]
        assert first.allocation == trainer.act(env).allocation
    restored = agent.initial.for_task(agent.initial.tasks[3])
    assert len(restored.tensors["replay.rewards"]) == 5 * trainer.played["net5 0.4"]
    again = DDPGAgent.load(tmp_path / "agent.safetensors")
    again.save(tmp_path / "copy.safetensors")
    assert (tmp_path / "copy.safetensors").read_bytes() == (tmp_path / "agent.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("policy.actor.mu.0.weight", lambda tensor: tensor * torch.nan, "must be finite"),
        ("1/replay.actions", lambda tensor: tensor * 0 + 7, "actions must lie in its range"),
        ("2/episode-critic.weights.0", lambda tensor: tensor[:, :-1].contiguous(), "must be of its own options"),
        ("3/replay.rewards", lambda tensor: tensor[:-1].contiguous(), "whole episodes"),
        ("0/replay.rewards", None, "replay.rewards"),
    ],
)
def test_every_tensor_of_a_policy_is_checked(toys, tmp_path, name, change, message):
    file = tmp_path / "agent.safetensors"
    trained(toys, 20)[0].state().save(file)
    record, tensors = read_agent(file)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name])
    write_agent(file, record, tensors)  # with a new seal, as an attacker would
    with pytest.raises(CheckpointError, match=message):
        trained(toys, 1, PolicyState.load(file))


def test_a_policy_without_tasks_is_refused(toys, tmp_path):
    file = tmp_path / "agent.safetensors"
    trained(toys, 20)[0].state().save(file)
    record, tensors = read_agent(file)
    write_agent(file, {**record, "tasks": []}, tensors)
    with pytest.raises(CheckpointError, match="a policy must have learnt some task"):
        PolicyState.load(file)


def test_options_that_do_not_suit_several_tasks_are_refused(toys):
    with pytest.raises(ConfigurationError, match="critic=episode and environments=1"):
        trained(toys, 1, config=DDPGConfig(critic="step"))
