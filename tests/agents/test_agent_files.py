"""A trained agent's file is data: every tensor and number is checked before it is used."""

from __future__ import annotations

import os

import pytest
import torch

from agents.agent_file import read_agent, write_agent
from agents.ddpg import DDPGConfig
from agents.ddpg.agent import DDPGAgent
from agents.loading import load_agent
from amc.errors import CheckpointError

SHORT = {"hidden": (8, 8), "warmup_episodes": 2, "ensemble": 2, "ensemble_hidden": 8, "gradient_steps": 2}


@pytest.fixture(scope="module")
def learnt(toys, tmp_path_factory):
    """A trained agent's tensors, and the record in its header."""
    agent = DDPGAgent(DDPGConfig(**SHORT))
    agent.search(toys.small_env(), 5, seed=0)
    file = tmp_path_factory.mktemp("agent") / "agent.safetensors"
    agent.save(file)
    record, tensors = read_agent(file)
    return tensors, record


@pytest.fixture
def reuse(learnt, toys, tmp_path):
    """Writes a changed agent, and continues with it in the environment that it knows."""

    def go_on(tensors=None, **options):
        old, record = learnt
        record = {**record, **{name: value for name, value in options.items() if name in record}}
        for part in ("config", "task"):
            record[part] = {**record[part], **{k: v for k, v in options.items() if k in record[part]}}
        kept = {name: value for name, value in {**old, **(tensors or {})}.items() if value is not None}
        write_agent(tmp_path / "a.safetensors", record, kept)  # with a new seal, as an attacker would
        agent = DDPGAgent.load(tmp_path / "a.safetensors")
        agent.search(toys.small_env(), 3, seed=0)
        return agent.act(toys.small_env())

    return go_on


def test_an_agent_that_is_as_it_was_saved_goes_on(reuse):
    assert reuse().reward > 0


TENSORS = [
    "policy.actor.mu.0.weight",
    "policy.critic_target.qf0.2.bias",
    "episode-critic.additive",
    "actor.optimizer.0.exp_avg",
    "actor.optimizer.3.exp_avg_sq",
    "actor.optimizer.0.step",
    "episode-critic-optimizer.1.exp_avg",
    "episode-critic-optimizer.1.exp_avg_sq",
    "replay.observations",
    "replay.actions",
    "replay.rewards",
]
SPOILT = {
    "another shape": (lambda tensor: torch.zeros(1 if tensor.dim() != 1 else 2, 3), "must"),
    "no elements": (lambda tensor: torch.zeros(0), "must"),
    "more elements": (lambda tensor: torch.cat([tensor.reshape(1, -1)] * 999, 1).contiguous(), "must"),
    "doubles": (lambda tensor: tensor.double(), "and type torch.float32, not"),
    "bytes": (lambda tensor: torch.zeros(tensor.shape, dtype=torch.uint8), "and type torch.float32, not"),
    "NaN": (lambda tensor: torch.full_like(tensor, torch.nan), "must be finite"),
    "infinity": (lambda tensor: torch.full_like(tensor, -torch.inf), "must be finite"),
    "nothing": (lambda tensor: None, "must hold"),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("damage", SPOILT)
def test_a_tensor_that_is_not_what_it_must_be_is_refused(learnt, reuse, name, damage):
    spoil, expected = SPOILT[damage]
    with pytest.raises(CheckpointError, match=expected):
        reuse({name: spoil(learnt[0][name])})


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"policy.extra": torch.zeros(2)}, "networks and no others"),
        ({"replay.extra": torch.zeros(2)}, "replay and no others"),
        ({"actor.optimizer.99.exp_avg": torch.zeros(2)}, "Adam's moments of its parameters, and those of 99"),
        ({"actor.optimizer.-1.exp_avg": torch.zeros(2)}, "by parameter, which '-1.exp_avg' does not name"),
        ({"actor.optimizer.x": torch.zeros(2)}, "by parameter, which 'x' does not name"),
    ],
)
def test_tensors_that_no_agent_has_are_refused(reuse, tensors, expected):
    with pytest.raises(CheckpointError, match=expected):
        reuse(tensors)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("replay.actions", 7.0, "actions must lie in its range"),
        ("actor.optimizer.0.exp_avg_sq", -1.0, "exp_avg_sq must lie in its range"),
        ("actor.optimizer.0.step", -1.0, "step must lie in its range"),
    ],
)
def test_values_out_of_range_are_refused(learnt, reuse, name, value, expected):
    with pytest.raises(CheckpointError, match=expected):
        reuse({name: torch.full_like(learnt[0][name], value)})


def test_pipes_and_devices_are_no_agents(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(CheckpointError, match="not an ordinary file"):
            DDPGAgent.load(name)


def test_part_of_an_episode_is_refused(learnt, reuse):
    cut = {name: value[:-1].clone() for name, value in learnt[0].items() if name.startswith("replay.")}
    with pytest.raises(CheckpointError, match="whole episodes of 3 steps, not 14 steps"):
        reuse(cut)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"hidden": [1 << 20, 1 << 20]}, "must be of its own options"),
        ({"ensemble": 1 << 30}, "must be of its own options"),
        ({"ensemble_hidden": 1 << 30}, "must be of its own options"),
        ({"features": ["x"]}, "must be of its own options and features"),
        ({"limit": -1}, "its limit must not be negative"),
        ({"limit": "x"}, "limit must be a whole number or unset"),
        ({"replay_episodes": 1 << 40}, "replay_episodes must be at most"),
        ({"environments": 1 << 30}, "environments must be at most"),
        ({"gradient_steps": 1 << 40}, "gradient_steps must be at most"),
        ({"gradient_steps": 1 << 16, "batch_size": 1 << 16}, "must come to at most 8388608 examples"),
        ({"elite_focus": 1e308}, "elite_focus must be in"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"warm_start": ["evil_module:agent"]}, "must not name code"),
        ({"updates": -3}, "updates must be a count"),
        ({"baseline": "x"}, "baseline must be"),
    ],
)
def test_options_that_the_networks_do_not_bear_out_are_refused(reuse, options, expected):
    with pytest.raises(CheckpointError, match=expected):
        reuse(**options)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ("amc-ddpg-4", "must be of format 3, and is of 4: written by a newer amc; update amc"),
        ("amc-policy-0", "must be of format 1, and is of 0: written by an older amc; train it again"),
        ("amc-magic-1", "must be an agent of format .* not 'amc-magic-1'; train it again"),
    ],
)
def test_an_agent_of_another_version_says_which(learnt, tmp_path, held, words):
    tensors, record = learnt
    write_agent(tmp_path / "a.safetensors", {**record, "format": held}, tensors)
    with pytest.raises(CheckpointError, match=words):
        load_agent(tmp_path / "a.safetensors")
