"""A small environment with the contract of `envs`, whose best allocation is known in closed form."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import gymnasium
import numpy as np

from amc.costs import Budget, PolynomialCost
from amc.problem import Decision, PruningProblem
from amc.problem.evaluator import Evaluator
from amc.problem.score import Score
from amc.structure import CostTerm, Extent, LayerSpec


def toy_problem(costs, size=16, budget=0.5, step=1):
    """One linear cost a decision: the share of cost i is costs[i] / sum(costs)."""
    names = [f"layer{i}" for i in range(len(costs))]
    terms = [CostTerm(int(cost), (Extent(0, ((i, 1),)),)) for i, cost in enumerate(costs)]
    model = {m: PolynomialCost(m, terms, [size] * len(costs)) for m in ("flops", "params")}
    layers = tuple(
        LayerSpec(
            name,
            "conv",
            f"{name}.weight",
            (size, 8 + i, 3, 3),
            8 + i,
            size,
            (3, 3),
            (1, 1),
            (8, 8),
            1,
            int(costs[i]) * size,
            int(costs[i]) * size,
            i,
            (),
        )
        for i, name in enumerate(names)
    )
    decisions = tuple(Decision(name, size, min_width=max(step, size // 8), step=step) for name in names)
    return PruningProblem(decisions, "filter", model, layers, Budget(flops=budget) if budget else None)


class ToyEvaluator(Evaluator):
    """Units of a layer matter as much as the reward says that they add, the last ones least."""

    def __init__(self, env):
        self.env = env
        self.asked = []

    def score(self, allocation):
        self.asked.append(allocation)
        return Score(100 * self.env.reward_of(allocation.key()) / self.env.sensitivity.sum(), 0.5, images=10)

    def saliency(self, criterion):
        gains = {name: -np.diff(curve) for name, curve in self.errors().items()}
        return {name: np.sqrt(gain) if criterion in ("l2", "magnitude") else gain for name, gain in gains.items()}

    def errors(self):
        return {
            decision.name: value * (1 - np.sqrt(np.arange(decision.size + 1) / decision.size))
            for decision, value in zip(self.env.problem.decisions, self.env.sensitivity, strict=True)
        }


class ToyEnv(gymnasium.Env):
    """Reward: sum_i s_i * sqrt(keep_i), optionally minus interactions of neighbours; linear budget."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (11,), np.float32)
    action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    def __init__(self, problem, sensitivity, coupling=None, mode="clip"):
        self.problem, self.sensitivity, self.coupling, self.mode = problem, np.asarray(sensitivity), coupling, mode
        self.sizes = np.array([d.size for d in problem.decisions], float)
        self.episodes = 0
        self.evaluator = ToyEvaluator(self)
        self._feature_costs = np.array([layer.flops for layer in problem.layers], float)

    def reward_of(self, widths):
        keep = np.asarray(widths) / self.sizes
        reward = float(self.sensitivity @ np.sqrt(keep))
        if self.coupling is not None:  # the narrowest neighbour limits: not additive
            reward -= float(self.coupling @ np.abs(keep[1:] - keep[:-1]))
            reward -= float(0.5 * self.sensitivity.sum() * np.maximum(0.35 - keep.min(), 0) ** 2)
        return reward

    def best(self):
        """Enumerates; for small problems only."""
        options = [[d.width(level) for level in range(d.levels)] for d in self.problem.decisions]
        limit = self.problem.limit
        return max((w for w in product(*options) if self.problem.cost(w) <= limit), key=self.reward_of)

    def _observe(self):
        t = min(len(self.chosen), len(self.sizes) - 1)
        costs = self._feature_costs
        total = costs.sum()
        done = float((costs[: len(self.chosen)] * (1 - np.array(self.chosen) / self.sizes[: len(self.chosen)])).sum())
        last = 1 - self.chosen[-1] / self.sizes[len(self.chosen) - 1] if self.chosen else 0.0
        layer = self.problem.layers[t]
        return np.array(
            [
                t / max(1, len(costs) - 1),
                layer.out_channels / 64,
                layer.in_channels / 64,
                0.5,
                0.5,
                0.5,
                0.5,
                costs[t] / costs.max(),
                done / total,
                costs[t + 1 :].sum() / total,
                last,
            ],
            np.float32,
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.chosen, self.wishes, self.walk = [], [], self.problem.walk()
        return self._observe(), {}

    def step(self, action):
        index, ratio = len(self.chosen), float(np.clip(action[0], 0, 1))
        width = self.problem.round_width(index, ratio)
        self.wishes.append(1 - ratio)
        if self.mode == "clip":
            low, high = self.walk.bounds()
            width = min(max(width, low), high)
        self.chosen.append(width)
        self.walk.choose(width)
        info = {"width": width, "pruning_ratio": 1 - width / self.sizes[index]}
        last = len(self.chosen) == len(self.sizes)
        reward = 0.0
        if last:
            if self.mode == "project":
                self.chosen = list(self.problem.project(self.wishes))
            widths = tuple(self.chosen)
            reward = self.reward_of(widths)
            self.episodes += 1
            info |= {
                "allocation": self.problem.allocation(widths),
                "score": SimpleNamespace(accuracy=reward),
                "costs": self.problem.costs_of(widths),
                "reward": reward,
            }
        return self._observe(), reward, last, False, info


def small_env(mode="clip"):
    """Three decisions of 8 units; the first is dear and useless, the last cheap and precious."""
    return ToyEnv(toy_problem([5, 3, 2], size=8), [1.0, 2.0, 4.0], mode=mode)


def wide_env(mode="clip", decisions=24, seed=0, coupled=False):
    """Random sensitivities and costs, by depth and by chance; the best is near a Lagrangian's solution."""
    rng = np.random.default_rng(seed)
    sensitivity = np.exp(rng.normal(0, 0.8, decisions))
    costs = rng.choice([2, 3, 4, 6, 8], decisions)
    sensitivity *= 100 / sensitivity.sum()
    coupling = np.full(decisions - 1, 100 / decisions / 3) if coupled else None
    return ToyEnv(toy_problem(costs, size=32), sensitivity, coupling, mode)
