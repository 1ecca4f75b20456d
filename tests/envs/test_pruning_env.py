from __future__ import annotations

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.wrappers import RescaleAction
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from amc.costs import Budget
from amc.errors import ConfigurationError, ModelError, UnknownNameError
from amc.problem.score import Score
from amc.structure import Allocation
from envs import FILTER_PRUNING, WEIGHT_PRUNING
from envs.pruning_env import FilterPruningEnv

MODES = ("clip", "project")


def play(env, ratios):
    """Plays one episode and returns what every step returned."""
    env.reset()
    return [env.step(np.array([ratio], dtype=np.float32)) for ratio in ratios]


@pytest.mark.parametrize("options", [{}, {"problem": 3, "evaluator": lambda allocation: 0}, {"problem": "resnet20"}])
def test_without_a_problem_and_an_evaluator_the_way_to_both_is_told(options, make_problem):
    with pytest.raises(ConfigurationError, match=r"problem, evaluator = envs.make_problem\(model, data, budget\)"):
        gymnasium.make(FILTER_PRUNING, **options)
    with pytest.raises(ConfigurationError, match="needs a problem and an evaluator"):
        gymnasium.make(FILTER_PRUNING, problem=make_problem(kind="filter"), evaluator=4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "kind"), [(FILTER_PRUNING, "filter"), (WEIGHT_PRUNING, "weight")])
class TestCheckers:
    """Warnings are errors here, as in the whole suite."""

    def make(self, name, kind, mode, make_problem, evaluate, **options):
        problem = make_problem(kind=kind)
        return gymnasium.make(name, problem=problem, evaluator=evaluate, allocation_mode=mode, **options)

    def test_gymnasium_finds_no_fault(self, name, kind, mode, make_problem, evaluate):
        env = self.make(name, kind, mode, make_problem, evaluate, render_mode="ansi")
        gymnasium_check(env.unwrapped)

    # SB3 recommends actions in [-1, 1], to which its agents rescale by themselves; a pruning ratio is in [0, 1].
    @pytest.mark.filterwarnings("ignore:We recommend you to use a symmetric and normalized Box action space")
    def test_sb3_finds_no_fault(self, name, kind, mode, make_problem, evaluate):
        sb3_check(self.make(name, kind, mode, make_problem, evaluate))

    def test_sb3_finds_no_fault_with_symmetric_actions(self, name, kind, mode, make_problem, evaluate):
        sb3_check(self.make(name, kind, mode, make_problem, evaluate, symmetric_actions=True))

    def test_sb3_finds_no_fault_with_rescaled_actions(self, name, kind, mode, make_problem, evaluate):
        env = self.make(name, kind, mode, make_problem, evaluate)
        sb3_check(RescaleAction(env, np.float32(-1), np.float32(1)))


def test_symmetric_actions_mean_the_ratios_that_a_wrapper_would_make_of_them(make_problem, evaluate):
    symmetric = FilterPruningEnv(make_problem(), evaluate, symmetric_actions=True)
    plain = FilterPruningEnv(make_problem(), evaluate)
    steps = play(symmetric, (-1.0, 0.5, 3.0))
    assert [step[4] for step in steps] == [step[4] for step in play(plain, (0.0, 0.75, 1.0))]


def test_the_package_is_imported_by_gymnasium_make(make_problem, evaluate):
    env = gymnasium.make(f"envs:{FILTER_PRUNING}", problem=make_problem(), evaluator=evaluate)
    assert isinstance(env.unwrapped, FilterPruningEnv)


def test_clipped_episode_by_hand(make_problem, evaluate):
    """Cost 4a + ab + 2bc with 8, 10, 5 channels and a limit of 106."""
    env = FilterPruningEnv(make_problem(), evaluate)
    steps = play(env, (0.0, 0.0, 0.0))
    # a = 8 leaves 106 - 32 = 74 for b (8 + 2c): with c = 1, b <= 7. b = 7 leaves 106 - 88 = 18 for 14c: c = 1.
    infos = [info for *_, info in steps]
    assert [info["width"] for info in infos] == [8, 7, 1]
    assert [info["pruning_ratio"] for info in infos] == pytest.approx([0.0, 0.3, 0.8])
    assert [reward for _, reward, *_ in steps] == [0.0, 0.0, pytest.approx(16 / 23)]
    assert [terminated for _, _, terminated, *_ in steps] == [False, False, True]
    assert not any(truncated for *_, truncated, _ in steps)
    assert [set(info) for info in infos[:2]] == [{"width", "pruning_ratio"}] * 2
    last = infos[-1]
    assert last["allocation"] == Allocation("filter", {"a": 8, "b": 7, "c": 1})
    assert last["costs"] == {"flops": 32 + 56 + 14, "params": 8 + 14 + 3}
    assert last["score"] == Score(100 * 16 / 23, 0.5, images=10)
    assert last["reward"] == steps[-1][1]


def test_asking_for_too_little_is_clipped_so_that_no_budget_is_wasted(make_problem, evaluate):
    env = FilterPruningEnv(make_problem(), evaluate)
    infos = [info for *_, info in play(env, (1.0, 1.0, 1.0))]
    # a = 1: 4 + b + 2bc; b = 9 with c = 5 costs 103, b = 10 would cost 114.
    assert [info["width"] for info in infos] == [1, 9, 5]


def test_what_clipping_leaves_of_the_budget_is_spent(make_problem, evaluate):
    """The widths 4, 8, 3 cost 96 of 106; b = 9 brings that to 106."""
    env = FilterPruningEnv(make_problem(), evaluate)
    infos = [info for *_, info in play(env, (0.5, 0.2, 0.0))]
    assert [info["width"] for info in infos] == [4, 8, 3]
    assert infos[-1]["allocation"].key() == (4, 9, 3)
    assert infos[-1]["costs"]["flops"] == 106


def test_projected_episode_collects_wishes_and_meets_the_budget_at_the_end(make_problem, evaluate):
    problem = make_problem()
    env = FilterPruningEnv(problem, evaluate, allocation_mode="project")
    infos = [info for *_, info in play(env, (0.0, 0.25, 0.0))]
    assert [info["width"] for info in infos] == [8, 8, 5]  # 7.5 rounds to 8; far over the limit together
    assert [info["pruning_ratio"] for info in infos] == [0.0, 0.25, 0.0]
    assert infos[-1]["allocation"].key() == problem.project((1.0, 0.75, 1.0))
    assert infos[-1]["costs"]["flops"] <= problem.limit


def test_what_is_asked_for_below_the_smallest_width_counts_as_that_width(make_problem, evaluate):
    problem = make_problem(min_width=2)
    env = FilterPruningEnv(problem, evaluate, allocation_mode="project")
    least = problem.keep_ratios(problem.min_widths)
    *_, info = list(play(env, (0.999, 0.5, 0.5)))[-1]
    assert info["allocation"].key() == problem.project((least[0], 0.5, 0.5)) != problem.project((0.001, 0.5, 0.5))


@given(ratios=st.lists(st.floats(-1, 2), min_size=3, max_size=3), mode=st.sampled_from(MODES), share=st.floats(0.1, 1))
def test_every_episode_meets_the_budget_and_stays_in_the_box(make_problem, make_evaluate, ratios, mode, share):
    evaluate = make_evaluate()
    env = FilterPruningEnv(make_problem(Budget(flops=share)), evaluate, allocation_mode=mode)
    first, _ = env.reset()
    steps = play(env, ratios)
    for observation in (first, *(step[0] for step in steps)):
        assert env.observation_space.contains(observation)
    info = steps[-1][-1]
    assert info["costs"]["flops"] == env.problem.cost(env.problem.widths(info["allocation"])) <= env.problem.limit
    assert evaluate.calls == [info["allocation"]]


@given(data=st.data(), mode=st.sampled_from(MODES), share=st.floats(0.1, 1))
def test_heuristics_get_what_they_play(make_problem, make_evaluate, data, mode, share):
    problem = make_problem(Budget(flops=share))
    widths = problem.project(data.draw(st.lists(st.floats(0, 1), min_size=3, max_size=3)))
    env = FilterPruningEnv(problem, make_evaluate(), allocation_mode=mode)
    steps = play(env, [1 - width / size for width, size in zip(widths, problem.dense_widths, strict=True)])
    assert steps[-1][-1]["allocation"].key() == widths


def test_without_a_budget_the_paper_rewards_weigh_size_themselves(make_problem, evaluate):
    env = FilterPruningEnv(make_problem(None), evaluate, reward="flops")
    info = play(env, (0.5, 0.5, 0.4))[-1][-1]
    assert info["allocation"].key() == (4, 5, 3)
    assert info["reward"] == pytest.approx(-(1 - 12 / 23) * np.log(16 + 20 + 30))


def test_rewards_are_injected(make_problem, evaluate):
    env = FilterPruningEnv(
        make_problem(), evaluate, reward=lambda outcome: outcome.dense_costs["flops"] - outcome.costs["flops"]
    )
    assert play(env, (0.0, 0.0, 0.0))[-1][1] == 212 - 102


def test_environments_share_problem_and_evaluator_but_not_episodes(make_problem, evaluate):
    problem = make_problem()

    def make():
        return Monitor(gymnasium.make(FILTER_PRUNING, problem=problem, evaluator=evaluate))

    both = DummyVecEnv([make, make])
    both.reset()
    for first, second in ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)):
        _, _, done, infos = both.step(np.array([[first], [second]], dtype=np.float32))
    assert done.all()
    assert [info["allocation"].key() for info in infos] == [(8, 7, 1), (1, 9, 5)]
    assert len(evaluate.calls) == 2


def test_specifications_do_not_copy_the_evaluator(make_problem, evaluate):
    env = gymnasium.make(FILTER_PRUNING, problem=make_problem(), evaluator=evaluate)
    play(env.spec.make(), (0.5, 0.5, 0.5))
    assert len(evaluate.calls) == 1


def test_environments_are_pickled_between_steps(make_problem, evaluate):
    env = FilterPruningEnv(make_problem(), evaluate)
    env.reset()
    env.step(np.array([0.5], dtype=np.float32))
    twin = pickle.loads(pickle.dumps(env))
    for action in (np.array([0.3], dtype=np.float32), np.array([0.9], dtype=np.float32)):
        ours, theirs = env.step(action), twin.step(action)
    assert ours[-1]["allocation"] == theirs[-1]["allocation"]


def test_rendering_lists_what_is_kept_so_far(make_problem, evaluate):
    env = FilterPruningEnv(make_problem(), evaluate, render_mode="ansi")
    env.reset()
    env.step(np.array([0.25], dtype=np.float32))
    assert [line.split() for line in env.render().splitlines()] == [
        ["layer", "size", "kept", "pruned"],
        ["a", "8", "6", "25.0%"],
        ["b", "10", ".", "."],
        ["c", "5", ".", "."],
        ["flops:", "184", "of", "212", "(86.79%),", "budget", "106"],
    ]


def test_no_render_mode_renders_nothing(make_problem, evaluate):
    env = FilterPruningEnv(make_problem(), evaluate)
    env.reset()
    assert env.render() is None


def test_steps_outside_an_episode_are_refused(make_problem, evaluate):
    env = FilterPruningEnv(make_problem(), evaluate)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(np.array([0.5]))
    play(env, (0.5, 0.5, 0.5))
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(np.array([0.5]))


def test_actions_must_be_numbers(make_problem, evaluate):
    env = FilterPruningEnv(make_problem(), evaluate)
    env.reset()
    with pytest.raises(ValueError, match="finite number, not nan"):
        env.step(np.array([np.nan]))


def test_rewards_must_be_numbers(make_problem):
    env = FilterPruningEnv(make_problem(), lambda _: Score(float("nan"), float("nan")))
    with pytest.raises(ModelError, match="must be a finite number, not nan"):
        play(env, (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"allocation_mode": "clamp"}, ConfigurationError, "'clip' or 'project', not 'clamp'"),
        ({"reward": "flop"}, UnknownNameError, "did you mean 'flops'"),
    ],
)
def test_bad_options_are_refused(make_problem, evaluate, options, error, message):
    with pytest.raises(error, match=message):
        FilterPruningEnv(make_problem(), evaluate, **options)


def test_problems_of_the_other_kind_are_refused(make_problem, evaluate):
    with pytest.raises(ConfigurationError, match=r"kind 'filter', not 'weight'; build it with filter_problem"):
        FilterPruningEnv(make_problem(kind="weight"), evaluate)


def test_an_evaluator_that_returns_a_number_is_told_what_to_return(make_problem):
    env = FilterPruningEnv(make_problem(kind="filter"), lambda allocation: 0.5)
    with pytest.raises(ConfigurationError, match=r"must return a Score, such as .*Score\(accuracy=90.0.* not 0.5"):
        play(env, [0.5] * len(env.problem.decisions))


@pytest.mark.parametrize("name", [FILTER_PRUNING, WEIGHT_PRUNING])
def test_an_environment_alone_says_how_to_get_what_it_needs(name):
    with pytest.raises(ConfigurationError, match=r"problem, evaluator = envs\.make_problem\(model, data, budget\)"):
        gymnasium.make(name)


@pytest.mark.parametrize(("name", "family"), [(FILTER_PRUNING, "filter"), (WEIGHT_PRUNING, "weight")])
def test_a_network_and_its_data_make_a_problem_in_one_line(name, family):
    import amc
    import envs
    from amc.data import DataConfig, load_data

    digits = load_data(DataConfig(train_images=120, search_images=40, test_images=10, calibration_images=40))
    bound = {"filter": amc.Budget(flops=0.5), "weight": amc.Budget(params=0.5)}[family]
    model = amc.create_model("digits_lenet", seed=0)
    pruning = amc.PruningConfig(family=family, criterion="l2" if family == "filter" else "magnitude")
    problem, evaluator = envs.make_problem(model, digits, bound, pruning=pruning, device="cpu")
    env = gymnasium.make(name, problem=problem, evaluator=evaluator)
    *_, (_, reward, _, _, info) = play(env, [0.5] * len(problem.decisions))
    assert reward == info["score"].accuracy / 100
    assert info["score"].images == 40
    assert all(info["costs"][metric] <= limit for metric, limit in problem.limits.items())
    with pytest.raises(AttributeError, match="no attribute 'make_environment'"):
        envs.make_environment  # noqa: B018
