"""The options of a run, for the command line, YAML files and Python alike.

The docstrings below are what `--help` prints, one line per option. Values are checked where they are used, by the
part that owns the rule, so that Python callers get the same messages.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from agents.registry import AGENTS
from amc.costs import Budget
from amc.costs.metrics import METRICS, bounded_names
from amc.data.load import DataConfig
from amc.models.factory import is_own_code
from amc.pipeline.search import SearchConfig, default_budget
from amc.pruning import PruningConfig
from amc.pruning.schedules import SCHEDULES
from amc.training.config import FineTuneConfig, TrainConfig
from amc.utils.conversion import check_seed, conform
from amc.utils.options import Chosen, spell
from envs.rewards import REWARDS


@dataclass(frozen=True)
class _Bounds:
    """The methods of a budget configuration, whatever metrics there are."""

    def __post_init__(self) -> None:
        """Checks the bounds."""
        conform(self, "budget.")
        self.bound()

    def bound(self) -> Budget | None:
        """Returns the budget, None where nothing is set."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        given = {name: _whole(value) for name, value in values.items() if name in bounded_names()}
        if "latency_ms" in values:
            given["latency_ms"] = values["latency_ms"]
        return Budget.of(given) if given else None


DEFAULT_WEIGHTS = "DEFAULT"
"""Given in place of a file: the weights that the network's own library publishes."""

BudgetConfig: Any = dataclasses.make_dataclass(
    "BudgetConfig",
    [
        *((name, float | None, None) for name in METRICS.names()),
        ("latency", float | None, None),
        ("latency_ms", float | None, None),
        ("memory", float | None, None),
        ("profile", str | None, None),
        ("insist", bool, False),
    ],
    bases=(_Bounds,),
    frozen=True,
)
BudgetConfig.__module__ = __name__
BudgetConfig.__doc__ = "\n".join(
    [
        "Budget: what the smaller network may cost. Where several bounds are set, all must hold.",
        "",
        "If none is set: half the FLOPs; no bound for the rewards flops and params.",
        "",
        "Attributes:",
        *(
            f"    {entry.name}: What is kept of the {entry.summary}: a share of the dense network's (0.5) or a count."
            for entry in METRICS.entries()
        ),
        "    latency: What is kept of the dense network's time: a share (0.5). It needs --budget.profile.",
        "    latency_ms: The time in milliseconds, in place of a share. It needs --budget.profile.",
        "    memory: What is kept of the peak memory of the activations: a share (0.5), or bytes.",
        "    profile: File written by 'amc profile': latencies of the device and engine.",
        "    insist: Whether to accept a profile whose predictions are more than 10% off.",
    ]
)


@dataclass(frozen=True)
class RunConfig:
    """The run.

    Attributes:
        model: Built-in or torchvision name, timm:NAME, or package.module:factory; 'amc inspect --list' prints the
            names. A folder with a pruned network is pruned further.
        weights: Checkpoint with the trained weights, or DEFAULT for those that torchvision or timm publishes; a last
            layer for other classes is replaced and trained.
        classes: Number of outputs of the network, if it differs from the data's number of classes.
        untrained: Whether to go ahead with a dense network that is no better than chance.
        train_first: Whether to train the network first; unset: yes, unless --weights or package.module:factory is set.
        agent: What decides how much of each layer stays.
        episodes: Candidates that the agent may try.
        reward: What the agent maximises.
        first_images: Images on which a candidate is scored first, those for
            its batch norms at least; it sees the rest only while it can
            still win. Unset: all.
        allocation_mode: How candidates are kept within the budget: clip limits each layer in its turn (the paper's),
            project scales all layers together at the end.
        schedule: In which rounds networks are pruned and trained.
        compare: Agents to compare with under the same budget; none for no comparison.
        seed: Seed of everything random.
        device: Where networks are run: auto, cpu or cuda.
        devices: How many GPUs trainings use, or shares of the CPU: a process each. More than one needs
            'amc-compress[devices]'; torchrun is for several machines.
        dtype: Number format in which candidates are scored: float32, bfloat16, or auto for what the device does best.
        deterministic: Whether the result must be the same with any number of threads, and in every run on a GPU;
            slower.
        features: Features that the agent sees beside the paper's 11, if any.
        policy: Trained agent (agent.safetensors) to start from: one episode without noise, then --episodes candidates.
        data: The data.
        budget: The budget.
        pruning: The pruning.
        train: The training.
        finetune: The fine-tuning.
    """

    model: str = "digits_resnet"
    weights: str | None = None
    classes: int | None = None
    untrained: bool = False
    train_first: bool | None = None
    agent: Chosen = "ddpg"
    episodes: int = 100
    reward: Chosen = "accuracy"
    first_images: int | None = None
    allocation_mode: Literal["clip", "project"] = "clip"
    schedule: Chosen = "one_shot"
    compare: tuple[str, ...] = ("uniform", "erk")
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    dtype: str = "auto"
    deterministic: bool = False
    features: tuple[str, ...] = ()
    policy: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)

    def __post_init__(self) -> None:
        """Checks the options, and writes choices by name as text; `search` checks that the names exist."""
        object.__setattr__(self, "agent", spell(AGENTS, self.agent))
        object.__setattr__(self, "reward", spell(REWARDS, self.reward))
        object.__setattr__(self, "schedule", spell(SCHEDULES, self.schedule))
        conform(self)
        check_seed(self.seed)

    @property
    def allows_untrained(self) -> bool:
        """Whether a dense network at chance is accepted: on request, or where it is trained for 0 epochs."""
        return self.untrained or (self.trains_first and self.train.epochs == 0)

    @property
    def search(self) -> SearchConfig:
        """How the policy is looked for."""
        names = {field.name for field in dataclasses.fields(SearchConfig)} - {"cluster", "workers"}  # of the command
        given = {name: getattr(self, name) for name in names}
        return SearchConfig(**{**given, "untrained": self.allows_untrained})

    @property
    def trains_first(self) -> bool:
        """Whether the dense network is trained by the run itself."""
        return not (self.weights or is_own_code(self.model)) if self.train_first is None else self.train_first


def as_mapping(config: Any) -> dict[str, Any]:
    """Returns a configuration as nested dictionaries, for YAML."""
    return dataclasses.asdict(config)


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Returns the configuration with absolute paths, so that it holds in any working directory."""
    root = config.data.root
    data = config.data if root is None else replace(config.data, root=_absolute(root))
    weights, policy = (_absolute(path) if path else path for path in (config.weights, config.policy))
    budget = config.budget
    if budget.profile:
        budget = replace(budget, profile=_absolute(budget.profile))
    return replace(config, data=data, weights=weights, policy=policy, budget=budget)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def budget_of(config: RunConfig) -> Budget | None:
    """Returns the budget; `amc.pipeline.search.default_budget` if none is set."""
    return config.budget.bound() or default_budget(config.reward)


def _whole(value: float) -> float | int:
    """Returns counts as integers; shares stay as they are."""
    return int(value) if value > 1 and float(value).is_integer() else value
