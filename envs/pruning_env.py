"""The environment that walks a network layer by layer and asks for a pruning ratio at each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from amc.errors import ConfigurationError, ModelError
from amc.problem import PruningProblem, Walk
from amc.problem.evaluator import Evaluator, EvaluatorProxy, as_evaluator
from amc.problem.score import Score
from amc.structure import Allocation
from amc.utils.options import Chosen
from envs.observation import ObservationEncoder, feature_names
from envs.rendering import render_widths
from envs.rewards import Outcome, Reward, name_of, paid, resolve_reward

Observation = NDArray[np.float32]
Action = NDArray[np.float32]


class PruningEnv(gymnasium.Env[Observation, Action]):
    """One episode decides one allocation: one step per decision, in the order of execution.

    The observation, shape `(11,)` in [0, 1], is that of Eq. 1 of AMC (He et al., 2018, arXiv:1802.03494): index t of
    the decision, output channels n, input channels c, height h, width w, stride, kernel size k, FLOPs of the layer,
    cost reduced so far, cost that the rest can still lose, last action; `envs.observation.FEATURES` has their units and
    scales. With `features` it has those of `envs.extra_features` behind them.

    The action, shape `(1,)` in [0, 1], is the pruning ratio. The ratio is rounded to an allowed width FIRST and then
    brought to the budget, so that the budget holds on whole channels or weights. The allocation mode decides how:

    * `"clip"` (the paper's Algorithm 1): every width is clipped to the bounds that keep the budget within reach of
      the later decisions, and (a deviation) to no less than what fits with the later ones at their largest. At the
      last step what is left of the budget, if a channel still fits, is spent by
      `PruningProblem.fill` (a deviation: the paper leaves it), so that every agent's allocation is as close under
      the budget as the widths allow; an allocation that already is stays unchanged. A policy that removes nothing meets
      the budget too: the last layers pay for everything, down to their smallest widths. To avoid that, choose
      `"project"`.
    * `"project"`: the ratios are requests, unbounded; at the last step `PruningProblem.project` brings them to the
      budget together.

    The allocation is scored once, at the last step, which pays the reward; all other steps pay 0. `info` holds
    `"width"` and `"pruning_ratio"` (as applied; as requested in mode `"project"`) at every step, and at the last also
    `"allocation"`, `"score"`, `"costs"` (by metric) and `"reward"` of the final allocation.

    The environment itself is deterministic. Several may share one problem and one evaluator.

    Example:
        >>> import amc, torch
        >>> from amc.problem import filter_problem
        >>> from amc.tracing.trace import trace_structure
        >>> structure = trace_structure(amc.create_model("resnet20", seed=0), torch.zeros(1, 3, 32, 32))
        >>> problem = filter_problem(structure, amc.Budget(flops=0.5))
        >>> env = FilterPruningEnv(problem, lambda allocation: Score(accuracy=90.0, cross_entropy=0.3))
        >>> observation, info = env.reset(seed=0)
        >>> done = False
        >>> while not done:
        ...     observation, reward, done, truncated, info = env.step(np.array([0.3], np.float32))
        >>> info["costs"]["flops"] <= 0.5 * problem.dense_costs["flops"]
        True
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (Gymnasium's own name)
    kind: ClassVar[str]

    def __init__(
        self,
        problem: PruningProblem | None = None,
        evaluator: Evaluator | Callable[[Allocation], Score] | None = None,
        reward: Chosen | Reward = "accuracy",
        allocation_mode: str = "clip",
        render_mode: str | None = None,
        symmetric_actions: bool = False,
        features: Sequence[str] = (),
    ) -> None:
        """Builds an environment.

        Args:
            problem: Decisions, costs and budget.
            evaluator: Scores the network that an allocation describes, once an episode; a function of the allocation
                does too. Agents find it as `env.unwrapped.evaluator`.
            reward: Name of a reward (`envs.rewards`), or a function of an `Outcome`.
            allocation_mode: `"clip"` or `"project"`.
            render_mode: `"ansi"` for text from `render`, or None.
            symmetric_actions: Whether an action a is in [-1, 1] and means the pruning ratio (a + 1) / 2, as learners of
                other libraries prefer; the agents of this project act in pruning ratios.
            features: Names of features that the state has beside the paper's 11; see `envs.extra_features`.

        Raises:
            ConfigurationError: If the problem is of another kind, the mode is unknown, or the reward needs a budget
                that the problem lacks.
            UnknownNameError: If no reward or feature has the name.
        """
        is_evaluator = callable(evaluator) or hasattr(evaluator, "score")
        if not isinstance(problem, PruningProblem) or evaluator is None or not is_evaluator:
            raise ConfigurationError(
                f"{type(self).__name__} needs a problem and an evaluator, not {problem!r:.80} and {evaluator!r:.80}: "
                "problem, evaluator = envs.make_problem(model, data, budget); "
                "gymnasium.make(..., problem=problem, evaluator=evaluator)"
            )
        if problem.kind != self.kind:
            raise ConfigurationError(
                f"{type(self).__name__} needs a problem of kind {self.kind!r}, not {problem.kind!r}; "
                f"build it with {self.kind}_problem"
            )
        if allocation_mode not in ("clip", "project"):
            raise ConfigurationError(f"the allocation mode must be 'clip' or 'project', not {allocation_mode!r}")
        self.problem = problem
        self.allocation_mode = allocation_mode
        self.render_mode = render_mode
        self._least_action = -1.0 if symmetric_actions else 0.0
        self.feature_names = feature_names(features)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (len(self.feature_names),), np.float32)
        self.action_space = gymnasium.spaces.Box(self._least_action, 1.0, (1,), np.float32)
        self.evaluator = as_evaluator(evaluator)
        self.reward_name = name_of(reward)
        self._reward = resolve_reward(reward, has_budget=problem.budget is not None)
        self._encoder = ObservationEncoder(problem, features, self.evaluator)
        self._walk: Walk | None = None
        self._ratios: list[float] = []
        self._final: tuple[int, ...] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode at the first decision; nothing is random, so the seed has no effect."""
        super().reset(seed=seed)
        self._walk, self._ratios, self._final = self.problem.walk(), [], None
        return self._encoder.encode(self._walk, 0.0), {}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Decides one width.

        Args:
            action: The pruning ratio, shape `(1,)`, or what stands for it (`symmetric_actions`); clipped to its range.

        Raises:
            ResetNeeded: If the episode is over, or was not started.
            ValueError: If the action is not a finite number.
            ModelError: If the reward of the final allocation is not finite.
        """
        walk = self._walk
        if walk is None or walk.done:
            raise gymnasium.error.ResetNeeded("the episode is over or was not started; call reset() first")
        width, ratio = self._decide(walk, self._requested(action))
        walk.choose(width)
        self._ratios.append(ratio)
        info: dict[str, Any] = {"width": width, "pruning_ratio": ratio}
        reward, terminated = 0.0, walk.index == len(self.problem.decisions)
        if terminated:
            self._final = self._final_widths(walk.widths, self._ratios)
            info |= self._outcome_info(self._final)
            reward = info["reward"]
        return self._encoder.encode(walk, ratio), reward, terminated, False, info

    def allocation_after(self, action: Action) -> Allocation | None:
        """Returns the allocation that the episode ends with if the next action is this one; None if it ends later.

        Nothing is scored, and the episode stays where it is.

        Args:
            action: As for `step`.
        """
        walk = self._walk
        if walk is None or walk.index != len(self.problem.decisions) - 1:
            return None
        width, ratio = self._decide(walk, self._requested(action))
        return self.problem.allocation(self._final_widths((*walk.widths, width), [*self._ratios, ratio]))

    def render(self) -> str | None:
        """Returns a text table of the layers and what they keep so far; None unless the render mode is `"ansi"`."""
        if self.render_mode != "ansi" or self._walk is None:
            return None
        return render_widths(self.problem, self._final or self._walk.widths)

    def _requested(self, action: Action) -> float:
        """Returns the pruning ratio that an action asks for."""
        value = _number(action)
        return min(max((value - self._least_action) / (1.0 - self._least_action), 0.0), 1.0)

    def _decide(self, walk: Walk, requested: float) -> tuple[int, float]:
        """Returns the width that a requested pruning ratio leads to, and the pruning ratio to report."""
        width = self.problem.round_width(walk.index, requested)
        if self.allocation_mode == "project":
            return width, requested
        low, high = walk.bounds()
        width = min(max(width, low), high)
        return width, 1.0 - width / self.problem.decisions[walk.index].size

    def _final_widths(self, widths: tuple[int, ...], ratios: Sequence[float]) -> tuple[int, ...]:
        """Returns the widths of a whole walk, brought to the budget."""
        if self.allocation_mode == "project":
            # A request below a decision's smallest width counts as that width.
            least = self.problem.keep_ratios(self.problem.min_widths)
            return self.problem.project([max(1.0 - ratio, low) for ratio, low in zip(ratios, least, strict=True)])
        return self.problem.fill(widths)

    def _outcome_info(self, widths: tuple[int, ...]) -> dict[str, Any]:
        """Scores the final widths."""
        allocation: Allocation = self.problem.allocation(widths)
        score: Score = self.evaluator.score(allocation)
        outcome = Outcome.of(self.problem, widths, score)
        reward = paid(self._reward, outcome)
        if not math.isfinite(reward):
            raise ModelError(
                f"a reward must be a finite number, not {reward} for {score}; check the network's weights "
                "and the data, or choose the reward 'accuracy'"
            )
        return {"allocation": allocation, "score": score, "costs": outcome.costs, "reward": reward}

    @property
    def spec(self) -> EnvSpec | None:
        """How `gymnasium.make` built the environment."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        # Gymnasium's wrappers deep-copy the specification, and with it the evaluator's network and images.
        if spec is not None and "evaluator" in spec.kwargs:
            spec = replace(spec, kwargs={**spec.kwargs, "evaluator": _Shared(spec.kwargs["evaluator"])})
        self._spec = spec


class FilterPruningEnv(PruningEnv):
    """`AMC/FilterPruning-v0`: one step per channel group, a unit is a channel."""

    kind = "filter"


class WeightPruningEnv(PruningEnv):
    """`AMC/WeightPruning-v0`: one step per layer, a unit is a weight (the paper's fine-grained pruning)."""

    kind = "weight"


class _Shared(EvaluatorProxy):
    """An evaluator that is not copied along with what refers to it."""

    def __init__(self, evaluator: Evaluator | Callable[[Allocation], Score]) -> None:
        super().__init__(as_evaluator(evaluator))

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def _number(action: Action) -> float:
    value = float(np.asarray(action, dtype=np.float64).reshape(()))
    if not math.isfinite(value):
        raise ValueError(f"a pruning ratio must be a finite number, not {value}")
    return value
