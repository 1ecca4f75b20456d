"""The agent's parts against closed forms."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from agents.ddpg import DDPGConfig
from agents.ddpg.algorithm import AllocationDDPG
from agents.ddpg.budget_layer import BudgetLayer
from agents.ddpg.exploration import Schedule, truncated_normal
from agents.ddpg.proposals import best_plan
from agents.ddpg.replay import SharedRewardReplayBuffer
from amc.errors import ConfigurationError
from amc.structure import Allocation


def replay(toys, **options):
    env = toys.small_env()
    settings = {"baseline_rate": 0.0, "scale_rewards": False, "store_applied": False, "bootstrap": True} | options
    buffer = SharedRewardReplayBuffer(
        6, env.observation_space, env.action_space, "cpu", sizes=env.problem.dense_widths, **settings
    )
    return env, buffer


def add_episode(env, buffer, reward, widths=(4, 4, 4), actions=(0.0, 0.0, 0.0)):
    for index, action in enumerate(actions):
        last = index == len(actions) - 1
        info = {"allocation": env.problem.allocation(widths)} if last else {}
        observation = np.full((1, 11), index / 10, np.float32)
        buffer.add(observation, observation, np.array([[action]]), np.array([reward * last]), np.array([last]), [info])


def test_every_step_gets_the_final_reward_once_the_episode_ends(toys):
    env, buffer = replay(toys)
    add_episode(env, buffer, 7.0)
    assert buffer.size() == 3
    assert buffer.rewards[:3, 0].tolist() == [7.0, 7.0, 7.0]
    assert buffer.dones[:3, 0].tolist() == [0.0, 0.0, 1.0]


def test_the_replay_overwrites_the_oldest_episode(toys):
    env, buffer = replay(toys)
    for reward in (1.0, 2.0, 3.0):
        add_episode(env, buffer, reward)
    assert buffer.rewards[:, 0].tolist() == [3.0] * 3 + [2.0] * 3


def test_an_unfinished_episode_cannot_be_drawn(toys):
    env, buffer = replay(toys)
    add_episode(env, buffer, 1.0)
    buffer.add(np.zeros((1, 11)), np.zeros((1, 11)), np.zeros((1, 1)), np.zeros(1), np.array([False]), [{}])
    assert buffer.size() == 3


@pytest.mark.parametrize("size", [16, 2**22, 102_760_448])
def test_what_was_played_is_known_whatever_the_size_of_a_layer(size):
    step = -(-size // 2**22)  # as float32 tells no more widths apart
    box = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    rules = {"baseline_rate": 0.0, "scale_rewards": False, "store_applied": True, "bootstrap": True}
    buffer = SharedRewardReplayBuffer(1, box, box, "cpu", sizes=(size,), **rules)
    for share in np.linspace(0.01, 1, 23):
        width = int(share * size / step) * step or step
        info = {"allocation": Allocation("weight", {"layer": width})}
        seen = np.zeros((1, 1), np.float32)
        buffer.add(seen, seen, seen, np.zeros(1), np.array([True]), [info])
        assert [buffer.has_played((width + off,)) for off in (-step, 0, step)] == [False, True, False]


def test_applied_actions_are_the_allocations_ratios_scaled_to_plus_minus_one(toys):
    env, buffer = replay(toys, store_applied=True)
    add_episode(env, buffer, 1.0, widths=(8, 4, 2))
    assert buffer.actions[:3, 0, 0].tolist() == pytest.approx([-1.0, 0.0, 0.5])


def test_the_baseline_is_the_moving_average_of_the_batches_means(toys):
    env, buffer = replay(toys, baseline_rate=0.5)
    add_episode(env, buffer, 4.0)
    assert buffer.sample(8).rewards.unique().tolist() == [0.0]
    buffer.rewards[:] = 8.0  # the average moves half the way, from 4 to 6
    assert buffer.sample(8).rewards.unique().tolist() == [2.0]
    assert buffer.baseline == 6.0


def test_rewards_are_divided_by_their_deviation(toys):
    env, buffer = replay(toys, scale_rewards=True)
    add_episode(env, buffer, 10.0)
    assert buffer.sample(4).rewards.unique().tolist() == [10.0]  # all equal: nothing to divide by
    add_episode(env, buffer, 30.0)
    assert set(buffer.sample(64).rewards.unique().tolist()) == {1.0, 3.0}


def test_without_bootstrapping_every_step_is_a_last_one(toys):
    env, buffer = replay(toys, bootstrap=False)
    add_episode(env, buffer, 1.0)
    assert buffer.sample(32).dones.unique().tolist() == [1.0]


@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0])
def test_truncated_normal_has_the_moments_of_the_closed_form(mean):
    generator, normal, sigma = np.random.default_rng(0), torch.distributions.Normal(0.0, 1.0), 0.5
    draws = np.array([truncated_normal(mean, sigma, generator) for _ in range(20000)])
    assert draws.min() >= 0
    assert draws.max() <= 1
    low, high = torch.tensor(-mean / sigma), torch.tensor((1 - mean) / sigma)
    mass = normal.cdf(high) - normal.cdf(low)
    expected = mean + sigma * float((normal.log_prob(low).exp() - normal.log_prob(high).exp()) / mass)
    assert draws.mean() == pytest.approx(expected, abs=0.01)


def test_an_actor_that_has_diverged_is_named():
    with pytest.raises(ConfigurationError, match="lower actor_lr and critic_lr"):
        truncated_normal(float("nan"), 0.1, np.random.default_rng(0))


def test_the_papers_schedule():
    schedule = Schedule.of_search(DDPGConfig.paper(), 400, [])
    assert schedule.warmup == 100
    assert [schedule.sigma_of(episode) for episode in (0, 99, 100, 102)] == pytest.approx([0.5, 0.5, 0.5, 0.45125])


def test_sigma_reaches_its_final_value_in_the_last_episode():
    config = DDPGConfig(sigma=0.4, final_sigma=0.1, sigma_decay=None, warmup_episodes=10, warmup_fraction=0.5)
    schedule = Schedule.of_search(config, 30, [])
    assert schedule.sigma_of(10) == pytest.approx(0.4)
    assert schedule.sigma_of(29) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", [Schedule.of_search, lambda config, n, _: Schedule.continued(config, n - 10)])
def test_a_long_search_keeps_its_final_sigma(schedule):
    config = DDPGConfig(sigma=0.4, continued_sigma=0.4, final_sigma=0.1, annealing_episodes=20, warmup_episodes=10)
    sigmas = [schedule(config, 100, []).sigma_of(episode) for episode in range(100)]
    start = schedule(config, 100, []).warmup
    assert sigmas[start + 18] > 0.1
    assert sigmas[start + 19 :] == pytest.approx([0.1] * len(sigmas[start + 19 :]))


def test_short_searches_have_short_warmups():
    assert DDPGConfig.paper().warmup(1000) == 100
    assert DDPGConfig(warmup_episodes=100, warmup_fraction=0.25).warmup(40) == 10


def test_guides_are_played_as_they_are():
    generator = np.random.default_rng(0)
    schedule = Schedule.of_search(DDPGConfig(), 30, [np.array([0.1, 0.7])])
    assert [schedule.ratio(0, step, lambda: 0.5, generator) for step in (0, 1)] == [0.1, 0.7]


def test_every_guide_is_played_after_the_policy_in_a_short_transfer():
    schedule = Schedule.transferred(DDPGConfig(), 9, [np.full(2, guide / 10) for guide in range(1, 5)])
    generator = np.random.default_rng(0)
    played = [schedule.ratio(episode, 0, lambda: 0.9, generator) for episode in range(5)]
    assert played == [0.9, 0.1, 0.2, 0.3, 0.4]
    assert schedule.warmup == 5


def test_the_budget_layer_scales_as_the_projection_does(toys):
    problem = toys.toy_problem([5, 3, 2, 7], size=512, budget=0.4)
    wishes = [0.9, 0.5, 0.2, 0.3]
    widths = problem.project(wishes)
    layer = BudgetLayer(problem, problem.project([1.0] * 4))
    assert layer(torch.tensor([wishes]))[0].tolist() == pytest.approx([w / 512 for w in widths], abs=3 / 512)


def test_the_budget_layers_gradient_is_that_of_the_projection(toys):
    problem = toys.toy_problem([1, 1], size=512)
    layer = BudgetLayer(problem, problem.project([1.0, 1.0]))
    keep = torch.tensor([[0.4, 0.6]], requires_grad=True)
    layer(keep)[0, 0].backward()
    # on the budget, keep_0 / (keep_0 + keep_1): the derivatives are 0.6 and -0.4
    assert keep.grad[0].tolist() == pytest.approx([0.6, -0.4], abs=0.01)
    assert float(layer.excess(torch.tensor([[0.6, 0.6]]))) == pytest.approx(0.2, abs=0.01)


def test_the_budget_layer_only_clamps_without_a_budget(toys):
    layer = BudgetLayer(toys.toy_problem([1, 1], budget=None), (16, 16))
    assert layer(torch.tensor([[0.0, 1.0]]))[0].tolist() == [0.125, 1.0]
    assert layer.excess(torch.ones(3, 2)).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actor_lr": 0.0}, "actor_lr must be positive, not 0"),
        ({"tau": 2.0}, r"tau must be in \[0, 1\], not 2"),
        ({"sigma_decay": 0.0}, "sigma_decay must be in"),
        ({"hidden": ()}, "hidden must name at least one"),
        ({"gradient_steps": -2}, "gradient_steps must be -1 or at least 0"),
        ({"warmup_episodes": -1}, "warmup_episodes must not be negative"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DDPGConfig(**options)


@pytest.fixture(scope="module")
def learnt(toys):
    """An agent's algorithm after a short search, and its environment."""
    env = toys.wide_env("project", decisions=5)
    config = DDPGConfig(hidden=(32, 32))
    algorithm = AllocationDDPG(env, config, Schedule.of_search(config, 40, []), seed=0)
    algorithm.learn(40 * 5)
    return env, algorithm


def plan(algorithm, count, sigma, seed=0, elite_share=0.25):
    generator = np.random.default_rng(seed)
    return best_plan(algorithm.episode_learner, algorithm.replay_buffer, count, elite_share, sigma, generator)


def test_a_plan_meets_the_budget_and_the_bounds(learnt):
    env, algorithm = learnt
    sizes = np.array([decision.size for decision in env.problem.decisions])
    for seed in range(5):
        ratios = plan(algorithm, 8, 0.3, seed)
        assert ratios.shape == (5,)
        assert ((ratios >= 0) & (ratios <= 1)).all()
        widths = env.problem.project([float(ratio) for ratio in 1.0 - ratios])
        assert np.abs(np.array(widths) / sizes - (1.0 - ratios)).max() < 0.2


def test_of_more_plans_the_critic_values_the_chosen_one_higher(learnt):
    _, algorithm = learnt

    def value(count):
        keep = np.stack([1.0 - plan(algorithm, count, 0.3, seed) for seed in range(20)])
        with torch.no_grad():
            return float(algorithm.episode_learner.critic(torch.from_numpy(keep).float()).mean())

    assert value(1) < value(8) < value(64)


def test_an_actor_that_is_stuck_at_the_end_of_its_range_does_not_hold_the_search(learnt, monkeypatch):
    _, algorithm = learnt
    bias = algorithm.actor.mu[-2].bias
    monkeypatch.setattr(bias, "data", torch.full_like(bias, 50.0))  # prunes all it can, and has no gradient

    def value(elite_share):
        keep = np.stack([1.0 - plan(algorithm, 64, 0.03, seed, elite_share) for seed in range(5)])
        with torch.no_grad():
            return float(algorithm.episode_learner.critic(torch.from_numpy(keep).float()).mean())

    assert value(elite_share=0.25) > value(elite_share=0.0) + 0.1


def test_without_noise_a_plan_is_what_the_actor_answers(learnt):
    _, algorithm = learnt
    learner, replay = algorithm.episode_learner, algorithm.replay_buffer
    with torch.no_grad():
        keep, _, budget = learner.answers(replay, np.arange(learner.good_episodes(replay)))
        answers = 1.0 - budget(keep).numpy()
    for seed in range(20):
        distances = np.abs(answers - plan(algorithm, 1, 1e-6, seed)).max(axis=1)
        assert distances.min() < 1e-4


def test_of_several_plans_the_best_new_one_is_chosen(learnt):
    _, algorithm = learnt
    best = plan(algorithm, 16, 0.3)
    asked = []

    def is_new(ratios):
        asked.append(ratios)
        return len(asked) == 3

    generator = np.random.default_rng(0)
    third = best_plan(algorithm.episode_learner, algorithm.replay_buffer, 16, 0.25, 0.3, generator, is_new)
    assert np.array_equal(asked[0], best)
    assert np.array_equal(asked[2], third)
    with torch.no_grad():
        values = algorithm.episode_learner.critic(torch.from_numpy(1.0 - np.stack(asked)).float()).mean(0)
    assert values[0] > values[1] > values[2]
    generator = np.random.default_rng(0)
    known = best_plan(
        algorithm.episode_learner, algorithm.replay_buffer, 16, 0.25, 0.3, generator, lambda ratios: False
    )
    assert np.array_equal(known, best)
