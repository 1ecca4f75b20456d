"""The scale on which agents choose: its closed form, and that searches for single weights gain from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents import create_agent
from agents.agent_file import read_agent, write_agent
from agents.ddpg.agent import DDPGAgent
from agents.ddpg.config import DDPGConfig
from agents.ddpg.policy_state import PolicyState
from agents.ddpg.trainer import PolicyTrainer
from agents.keep_scale import LINEAR, LOG, KeepScale
from amc.costs import Budget
from amc.errors import ConfigurationError


def sparse_env(toys, kind="weight"):
    """Eight layers of 4,000 weights, of which a twentieth may stay; the gain of each falls from layer to layer."""
    problem = toys.toy_problem([1] * 8, size=4000, budget=None)
    decisions = tuple(replace(decision, min_width=1) for decision in problem.decisions)
    problem = replace(problem, kind=kind, decisions=decisions, budget=Budget(flops=0.05))
    return toys.ToyEnv(problem, np.geomspace(1, 0.05, 8), mode="project")


def test_weights_have_a_logarithmic_scale_and_channels_a_linear_one(toys):
    weights, channels = sparse_env(toys).problem, sparse_env(toys, "filter").problem
    assert (KeepScale.for_problem(weights), KeepScale.for_problem(channels)) == (LOG, LINEAR)
    assert (KeepScale.for_problem(weights, "linear"), KeepScale.for_problem(channels, "log")) == (LINEAR, LOG)


def test_a_level_is_a_power_of_the_least_keep_ratio():
    assert LOG.keep(np.array([0.0, 0.5, 1.0])) == pytest.approx([0.01, 0.1, 1.0])
    assert LOG.level(np.array([0.0, 0.001, 0.01, 0.1, 1.0])) == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0])
    assert [LOG.ratios(cut) for cut in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.9, 0.99])


@pytest.mark.parametrize(("budget", "scale"), [(0.05, LOG), (0.25, LOG), (0.3, LINEAR), (0.7, LINEAR), (None, LINEAR)])
def test_where_most_weights_stay_the_scale_is_that_of_pruning_ratios(toys, budget, scale):
    env = sparse_env(toys)
    env.problem = replace(env.problem, budget=None if budget is None else Budget(flops=budget))
    assert KeepScale.for_problem(env.problem) == scale
    assert KeepScale.for_problem(env.problem, "log") == LOG


@pytest.mark.heavy
def test_an_agent_stays_on_its_scale_at_another_budget(toys, tmp_path):
    """Trained where few weights stay, it plays and goes on in logarithms where most do."""
    agent, many = DDPGAgent(DDPGConfig(warmup_episodes=3)), sparse_env(toys)
    many.problem = replace(many.problem, budget=Budget(flops=0.7))
    agent.search(sparse_env(toys), 6, seed=0)
    agent.save(tmp_path / "agent.safetensors")
    loaded = DDPGAgent.load(tmp_path / "agent.safetensors")
    assert loaded.config.scale == "log"
    assert loaded.act(many).allocation == agent.act(many).allocation
    loaded.search(many, 2, seed=0)
    assert loaded.trained.config.scale == "log"
    linear = DDPGAgent(replace(loaded.config, scale="linear"))
    linear.search(many, 6, seed=0)
    assert linear.trained.config.scale == "linear"


def test_a_policy_of_several_budgets_has_one_scale(toys, tmp_path):
    many = sparse_env(toys)
    many.problem = replace(many.problem, budget=Budget(flops=0.7))
    trainer = PolicyTrainer({"many": many, "few": sparse_env(toys)}, DDPGConfig(warmup_episodes=3), episodes=20, seed=0)
    for _ in range(8):
        trainer.play()
    trainer.state().save(tmp_path / "agent.safetensors")
    state = PolicyState.load(tmp_path / "agent.safetensors")
    assert {part.config.scale for part in state.parts.values()} == {"log"}
    again = DDPGAgent(state.config, initial=state)
    for env in (many, sparse_env(toys)):
        assert again.act(env).allocation == trainer.act(env).allocation


def test_a_scale_that_there_is_not_is_refused():
    with pytest.raises(ConfigurationError, match="unknown ddpg: scale 'foo'; valid names: auto, linear, log"):
        DDPGConfig(scale="foo")


@given(level=st.floats(0, 1))
def test_keep_ratios_and_levels_are_inverse(level):
    for scale in (LOG, LINEAR):
        values = np.array([level])
        assert scale.level(scale.keep(values)) == pytest.approx(values, abs=1e-12)
        assert scale.cuts(scale.ratios(values)) == pytest.approx(values, abs=1e-12)
        assert scale.ratios(values)[0] == pytest.approx(scale.ratios(level))
        tensor = torch.from_numpy(values)
        assert scale.keep(tensor).numpy() == pytest.approx(scale.keep(values))
        assert scale.level(tensor).numpy() == pytest.approx(scale.level(values))


def test_the_linear_scale_leaves_every_bit():
    values = np.random.default_rng(0).random(1000)
    for translate in (LINEAR.keep, LINEAR.level, LINEAR.ratios, LINEAR.cuts):
        assert translate(values) is values


def test_gradients_pass_through_both_directions():
    level = torch.tensor([0.2, 0.7], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(LOG.keep(level).sum(), level)
    assert slope.numpy() == pytest.approx(np.log(100) * LOG.keep(level.detach().numpy()))
    (through,) = torch.autograd.grad(LOG.level(LOG.keep(level)).sum(), level)
    assert through.numpy() == pytest.approx([1.0, 1.0])


@pytest.mark.heavy
@pytest.mark.parametrize(
    "agent",
    ["ddpg:warm_start=[];gradient_steps=3;ensemble=2;hidden=[64, 64]", "random", "cem:warm_start=[]"],
    ids=["ddpg", "random", "cem"],
)
def test_searches_for_single_weights_gain_from_it(toys, agent):
    """As filters the same layers are searched on the linear scale; the rewards are the same."""
    best = {
        kind: np.mean(
            [create_agent(agent).search(sparse_env(toys, kind), 40, seed=seed).best.reward for seed in (0, 1)]
        )
        for kind in ("filter", "weight")
    }
    assert best["weight"] > best["filter"]


def test_the_first_plays_of_a_new_agent_are_spread_over_the_scale(toys):
    """The linear scale draws a keep ratio below 0.1 in one of ten cases, the logarithmic one in half of them."""
    env, asked = sparse_env(toys), []
    step = env.step
    env.step = lambda action: (asked.append(1 - float(action[0])), step(action))[1]
    create_agent("random").search(env, 50, seed=0)
    assert np.mean(np.array(asked) < 0.1) == pytest.approx(0.5, abs=0.1)
    assert min(asked) >= 0.0099


def test_files_of_before_the_scale_was_an_option_are_linear(toys, tmp_path):
    agent, file = DDPGAgent(DDPGConfig(warmup_episodes=3, scale="linear")), tmp_path / "agent.safetensors"
    agent.search(sparse_env(toys), 6, seed=0)
    agent.save(file)
    played = DDPGAgent.load(file).act(sparse_env(toys)).allocation
    record, tensors = read_agent(file)
    del record["config"]["scale"]
    write_agent(file, record, tensors)
    loaded = DDPGAgent.load(file)
    assert loaded.config.scale == "linear"
    assert loaded.act(sparse_env(toys)).allocation == played
