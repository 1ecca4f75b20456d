"""Compares allocations at equal measured time: test accuracy of networks that take the same time, without fine-tuning.

    amc profile --model resnet20 --classes 10 --batch 32 --shape 3,32,32 --pruning.residual true --out PROFILE
    python tests/stress/equal_time.py --data DIR --weights FILE --profile PROFILE --residual --share 0.6

Every method has a bound on time (by the profile) or on FLOPs. The bound is moved, the method run again, until its
network takes the time asked for when it is measured, in turn with the dense one. Only then is the network tested;
bounds and allocations are chosen on search images and times alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from half_the_flops import parser_of

from amc.costs import Budget
from amc.data import DataConfig, load_data
from amc.errors import AmcError
from amc.latency.check import check_line
from amc.latency.networks import network_with
from amc.latency.target import LatencyTarget
from amc.models import create_model
from amc.models.weights import load_weights
from amc.pipeline.deliver import Workshop
from amc.pipeline.prepare import prepare
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig, search_policy
from amc.pipeline.speed import timer_of
from amc.pipeline.task import Task, build_problem
from amc.pruning import PruningConfig
from amc.structure import Allocation
from amc.training import FineTuneConfig

_NEAR = 0.025
"""A network is taken if it needs at most this share less than the time asked for."""
_ROUNDS, _AGAIN = 20, 3
_METHODS = (
    ("latency", "uniform", "auto"),
    ("latency", "erk", "auto"),
    ("latency", "dp", "auto"),
    ("flops", "uniform", "auto"),
    ("flops", "uniform", 8),
    ("latency", "ddpg", "auto"),
    ("flops", "ddpg", "auto"),
    ("latency", "dp", 8),
    ("latency", "ddpg", 8),
    ("flops", "dp", 8),
    ("flops", "ddpg", 8),
)


@dataclass(frozen=True)
class Found:
    """A network that a method has chosen: its bound, what it keeps, its measured time, and its search accuracy."""

    bound: float
    allocation: Allocation
    time: float
    accuracy: float


class Player:
    """Runs a method under some bound, and measures what it chooses."""

    def __init__(
        self, task: Task, workshop: Workshop, metric: str, agent: str, options: argparse.Namespace, seed: int
    ) -> None:
        """Takes the method; see `_METHODS`."""
        self.task, self._metric, self._workshop = task, metric, workshop
        self._search = SearchConfig(agent, episodes=options.episodes, seed=seed, first_images=100)
        self._measure = partial(measured, task)

    def play(self, bound: float) -> Found:
        """Returns the network under a bound."""
        task = self.task
        problem = build_problem(task.structure, Budget.of({self._metric: bound}), task.pruning, task.latency)
        best = search_policy(problem, self._workshop.evaluator, self._search, Recorder()).best
        found = Found(bound, best.allocation, self._measure(best.allocation), best.score.accuracy)
        print(f"{self._metric} {bound:.3f}, {self._search.agent}: time {found.time:.3f}", file=sys.stderr, flush=True)
        return found

    def tested(self, found: Found) -> float:
        """Returns the test accuracy before fine-tuning."""
        return self.task.test(self._workshop.family.prune(found.allocation))


def main() -> None:
    """Plays the methods and prints a table."""
    options = _options()
    torch.set_num_threads(1)
    target = LatencyTarget.read(Path(options.profile), insist=True)
    base = task_of(options, target)
    print(f"dense {target.profile.dense_ms:.1f} ms; {check_line(dict(target.check))}; test {base.test(base.model):.2f}")
    print("\n| bound on | agent | widths | seed | bound | time | FLOPs | search | test |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    shops: dict[int | str, Workshop] = {}
    for metric, agent, round_to in _METHODS:
        if options.only and f"{metric}:{agent}:{round_to}" not in options.only:
            continue
        task = base if round_to == "auto" else replace(base, pruning=replace(base.pruning, round_to=round_to))
        if round_to not in shops:
            shops[round_to] = Workshop(task, Recorder())
        for seed in options.seeds if agent == "ddpg" else [0]:
            player = Player(task, shops[round_to], metric, agent, options, seed)
            found = at_time(player.play, options.share, options.start or options.share, options.tries)
            if found is None:
                print(f"| {metric} | {agent} | {round_to} | {seed} | none meets it | | | | |", flush=True)
                continue
            again = statistics.median(measured(task, found.allocation) for _ in range(_AGAIN))
            flops = (
                task.problem.cost(task.problem.widths(found.allocation), "flops") / task.problem.costs["flops"].dense
            )
            figures = (
                f"{found.bound:.3f} | {again:.3f} | {flops:.3f} | {found.accuracy:.2f} | {player.tested(found):.2f}"
            )
            print(f"| {metric} | {agent} | {round_to} | {seed} | {figures} |", flush=True)


def at_time(play: Callable[[float], Found], share: float, bound: float, tries: int) -> Found | None:
    """Returns the network whose measured time comes nearest to a share of the dense one's from below.

    Args:
        play: Returns the network under a bound.
        share: The time asked for.
        bound: The first one that is tried.
        tries: How many bounds are tried.
    """
    best: Found | None = None
    low, high = 0.0, 1.0
    for _ in range(tries):
        try:
            found = play(bound)
        except AmcError:  # no allocation is as small
            low, bound = bound, (bound + high) / 2
            continue
        if found.time > share:
            high = bound
        else:
            low = bound
            best = found if best is None or found.time > best.time else best
            if found.time > share * (1 - _NEAR):
                break
        # Time is about linear in the bound; in the middle where that leaves what is known of it.
        aimed = bound * share * (1 - _NEAR / 2) / found.time
        bound = aimed if low < aimed < high else (low + high) / 2
    return best


def measured(task: Task, allocation: Allocation) -> float:
    """Returns the time of a network as a share of the dense one's."""
    network = network_with(task.model, task.structure, allocation.widths)
    return float(timer_of(task).compare(network, _ROUNDS)["ratio"])


def task_of(options: argparse.Namespace, target: LatencyTarget) -> Task:
    """Returns the trained network with small splits, without a budget."""
    model = create_model(options.model, num_classes=10)
    load_weights(model, options.weights)
    data = load_data(
        DataConfig(name="imagefolder", root=options.data, search_images=1000, calibration_images=500, test_images=2000)
    )
    pruning = PruningConfig(residual=options.residual)
    tuning = FineTuneConfig(epochs=0)
    return prepare(model.eval(), data, None, pruning=pruning, finetune=tuning, device="cpu", latency=target)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--share", type=float, default=0.6, help="of the dense network's time (0.6)")
    parser.add_argument("--residual", action="store_true", help="cut residual streams too, as the profile does")
    parser.add_argument("--start", type=float, help="the first bound that is tried; unset: the share")
    parser.add_argument("--tries", type=int, default=4, help="bounds tried for a network of the time asked for (4)")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="*", help="methods, such as latency:ddpg:auto; unset: all")
    return parser.parse_args()


if __name__ == "__main__":
    main()
