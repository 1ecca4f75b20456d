"""The environments as other libraries play them: their checkers, their learners unchanged, several episodes at once."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3 import DDPG, PPO, SAC, TD3
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import envs
from amc.errors import UnknownNameError

OFF_POLICY = {"learning_starts": 4, "batch_size": 4, "buffer_size": 100}
LEARNERS = [
    (DDPG, OFF_POLICY),
    (TD3, OFF_POLICY),
    (SAC, OFF_POLICY),
    (PPO, {"n_steps": 6, "batch_size": 6, "n_epochs": 1}),
]


def made(name, make_problem, evaluate, **options):
    if name == envs.DIGITS:
        return gymnasium.make(name, **options)
    kind = "weight" if name == envs.WEIGHT_PRUNING else "filter"
    problem = make_problem(kind=kind)
    return gymnasium.make(name, problem=problem, evaluator=evaluate, symmetric_actions=True, **options)


@pytest.mark.parametrize("name", [envs.DIGITS, envs.FILTER_PRUNING, envs.WEIGHT_PRUNING])
@pytest.mark.parametrize("mode", ["clip", "project"])
def test_both_checkers_are_silent(name, mode, make_problem, evaluate):
    env = made(name, make_problem, evaluate, allocation_mode=mode)
    gymnasium_check(env.unwrapped, skip_render_check=name == envs.DIGITS)  # whose entry point is a function
    sb3_check(env)


@pytest.mark.parametrize("name", [envs.FILTER_PRUNING, envs.WEIGHT_PRUNING])
@pytest.mark.parametrize(("learner", "options"), LEARNERS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_learners_of_stable_baselines3_play_unchanged(name, learner, options, symmetric, make_problem, evaluate):
    problem = make_problem(kind="weight" if name == envs.WEIGHT_PRUNING else "filter")
    env = gymnasium.make(name, problem=problem, evaluator=evaluate, symmetric_actions=symmetric)
    model = learner("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, device="cpu", seed=0, **options)
    model.learn(12)
    assert len(evaluate.calls) >= 4  # three decisions an episode
    assert all(problem.cost(problem.widths(found)) <= problem.limit for found in evaluate.calls)
    action, _ = model.predict(env.reset()[0], deterministic=True)
    assert env.action_space.contains(action)


@pytest.fixture(scope="module")
def digits():
    return gymnasium.make(envs.DIGITS)


def test_digits_needs_no_argument(digits):
    assert digits.action_space == gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    rewards = []
    digits.action_space.seed(0)
    for _ in range(5):
        digits.reset()
        done = False
        while not done:
            _, reward, done, _, info = digits.step(digits.action_space.sample())
        rewards.append(reward)
        assert info["costs"]["flops"] <= digits.unwrapped.problem.limit
    assert len(set(rewards)) > 1
    assert max(rewards) > 0.3  # ten classes: the network is trained


@pytest.mark.heavy
def test_digits_leaves_random_state_and_threads_alone():
    from amc.pipeline import digits_environment

    digits_environment._digits_problem.cache_clear()
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    first = gymnasium.make(envs.DIGITS, budget=0.6)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert gymnasium.make(envs.DIGITS, budget=0.6).unwrapped.evaluator is first.unwrapped.evaluator


def test_digits_refuses_an_unknown_family_before_it_trains(monkeypatch):
    monkeypatch.setattr("amc.pipeline.digits_environment.train_model", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(UnknownNameError, match="unknown pruning family 'filtre'; did you mean 'filter'"):
        gymnasium.make(envs.DIGITS, family="filtre")


@pytest.mark.slow
def test_digits_in_weight_pruning():
    env = gymnasium.make(envs.DIGITS, family="weight", budget=0.2)
    assert env.unwrapped.problem.kind == "weight"
    assert env.unwrapped.problem.metric == "params"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasium_plays_several_episodes_at_once(mode, make_problem, evaluate):
    """The same actions earn the same in each: environments share nothing but what does not change."""
    several = gymnasium.make_vec(
        envs.FILTER_PRUNING, num_envs=3, vectorization_mode=mode, problem=make_problem(), evaluator=evaluate
    )
    alone = gymnasium.make(envs.FILTER_PRUNING, problem=make_problem(), evaluator=evaluate)
    try:
        several.reset(seed=0)
        ratios = np.array([[0.2], [0.5], [0.8]], dtype=np.float32)
        for _ in range(3):
            _, rewards, done, _, _ = several.step(ratios)
    finally:
        several.close()
    assert done.all()
    for ratio, reward in zip(ratios, rewards, strict=True):
        alone.reset()
        for _ in range(3):
            *_, expected, _, _, _ = alone.step(ratio)
        assert reward == pytest.approx(expected)


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
def test_stable_baselines3_plays_several_episodes_at_once(kind, make_problem, evaluate):
    # It asks for pictures unless told otherwise, and Gymnasium warns of it.
    options = {"problem": make_problem(), "evaluator": evaluate, "symmetric_actions": True, "render_mode": None}
    start = {"start_method": "fork"} if kind is SubprocVecEnv else {}
    several = make_vec_env(envs.FILTER_PRUNING, n_envs=2, env_kwargs=options, vec_env_cls=kind, vec_env_kwargs=start)
    try:
        model = PPO("MlpPolicy", several, n_steps=6, batch_size=12, n_epochs=1, device="cpu", seed=0)
        model.learn(12)
        assert len(model.ep_info_buffer) == 4
    finally:
        several.close()
