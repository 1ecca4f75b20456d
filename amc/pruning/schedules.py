"""Schedules: in how many rounds a network reaches its budget, and what is trained, rewound and refit in each.

A schedule knows shares and epochs alone; `amc.pipeline.rounds` carries its rounds out. One-shot pruning is one round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

from amc.errors import ConfigurationError
from amc.utils.registry import Registry

Rewind: TypeAlias = Literal["none", "init", "early", "redrawn", "random"]
"""What the weights that stay become before they are trained: as they are, those before any training, those after the
first epochs of training, those before any training in another order in each tensor, or drawn at random."""


@dataclass(frozen=True)
class Round:
    """One round: prune, rewind or refit, train.

    Attributes:
        budget: Share of the dense network's cost that is left after it, in the metric of the run's budget, in (0, 1].
        epochs: Epochs of training after pruning.
        rewind: What the weights that stay become first.
        recovery: How what stays is refit: as in `PruningConfig.recovery`; None as the run says. Weights that are
            rewound are not refit.
        retrain: Whether the settings are those of training the dense network, and not those of fine-tuning.
        first: Place of the first epoch in the schedule of the learning rate, from 0.
        total: Epochs of that schedule; None for those of this round.
        early: For `rewind="early"`, the epoch of the dense network's training to rewind to, from 1.
    """

    budget: float
    epochs: int
    rewind: Rewind = "none"
    recovery: str | None = None
    retrain: bool = False
    first: int = 0
    total: int | None = None
    early: int = 0


@dataclass(frozen=True)
class Goal:
    """The budget that a schedule has to reach, and its epochs.

    Attributes:
        budget: Share of the dense network's cost that is left in the end, in the metric of the budget, in (0, 1].
        finetune: Epochs of fine-tuning, over all rounds.
        train: Epochs in which the dense network is, or was, trained.
    """

    budget: float
    finetune: int
    train: int


class PruningSchedule(Protocol):
    """Plans the rounds."""

    def rounds(self, goal: Goal) -> tuple[Round, ...]:
        """Returns the rounds, in order; the budgets fall, and the last one is the goal's.

        Raises:
            ConfigurationError: If the epochs do not suffice.
        """


SCHEDULES: Registry[Callable[..., PruningSchedule]] = Registry(
    "pruning schedule", "amc.pruning_schedules", method="rounds"
)
"""By name, what makes a schedule; its options are keyword arguments."""


@dataclass(frozen=True)
class OneShot:
    """All at once, then fine-tuning: one round."""

    def rounds(self, goal: Goal) -> tuple[Round, ...]:
        """Returns the one round."""
        return (Round(goal.budget, goal.finetune),)


@dataclass(frozen=True)
class Iterative:
    """Prunes and retrains in turns (Han et al., 2015, arXiv:1506.02626, section 3).

    Every round removes the same share of what is left, or as much as `shares` say, and the weights that stay are
    trained on from where they are. The paper sets thresholds by hand; the epochs of fine-tuning are shared out evenly,
    the last rounds taking what cannot be.

    Attributes:
        count: How many rounds.
        shares: What each round but the last leaves of the dense network's cost; they give the number of rounds then.
            AMC's ResNet-50 has 0.5, 0.35 and 0.25 before 0.2 (arXiv:1802.03494).
    """

    count: int = 3
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Checks the rounds."""
        _check_rounds("iterative", self.count)
        if not all(share > after for share, after in pairwise((1.0, *self.shares, 0.0))):
            raise ConfigurationError(f"iterative: shares must fall, between 1 and 0, not {list(self.shares)}")

    def rounds(self, goal: Goal) -> tuple[Round, ...]:
        """Returns the rounds."""
        if self.shares and self.shares[-1] <= goal.budget:
            raise ConfigurationError(
                f"iterative: every share must be above the budget, {goal.budget:g} of the dense network's cost, not "
                f"{self.shares[-1]:g}"
            )
        budgets = [*self.shares, goal.budget] if self.shares else geometric(goal.budget, self.count)
        _check_epochs("iterative", len(budgets), goal.finetune)
        epochs = shared(goal.finetune, len(budgets))
        return tuple(Round(budget, count) for budget, count in zip(budgets, epochs, strict=True))


@dataclass(frozen=True)
class Gradual:
    """Prunes while training, fast at first, then more slowly (Zhu and Gupta, 2017, arXiv:1710.01878, Eq. 1).

    After round t of n the share removed is `s_f - s_f * (1 - t / n)^3`. Deviations: what is removed is cost in the
    metric of the budget, not weights; steps are whole epochs; and where channels go, they go for good, while masks of
    weights are drawn from what is left (in the paper a weight that was zeroed may come back).

    Attributes:
        count: How many rounds; one epoch each, and what is left of the epochs after the last.
        exponent: The 3 above.
    """

    count: int = 5
    exponent: float = 3.0

    def __post_init__(self) -> None:
        """Checks the options."""
        _check_rounds("gradual", self.count)
        if self.exponent < 1:
            raise ConfigurationError(f"gradual: exponent must be at least 1, not {self.exponent:g}")

    def rounds(self, goal: Goal) -> tuple[Round, ...]:
        """Returns the rounds; they share one schedule of the learning rate."""
        _check_epochs("gradual", self.count, goal.finetune)
        removed = [gradual_share(1 - goal.budget, t, self.count, self.exponent) for t in range(1, self.count + 1)]
        last = goal.finetune - (self.count - 1)
        return tuple(
            Round(1 - share, last if t == self.count - 1 else 1, first=t, total=goal.finetune)
            for t, share in enumerate(removed)
        )


@dataclass(frozen=True)
class Ticket:
    """Iterative magnitude pruning with rewinding: the lottery ticket (Frankle and Carbin, 2019, arXiv:1803.03635).

    Train, prune the same share of what is left, reset what stays to what it was, train again, and so on. The network
    must be trained by the run itself, so that its first weights are known. Each round trains for as many epochs as the
    dense network had.

    Attributes:
        count: How many rounds.
        rewind: What stays is reset to: init, the weights before training; early, those after the first epochs
            (arXiv:1903.01611); random, the paper's control: as init, but in the last round each layer's first weights
            are shuffled, so that the ticket is the same, and so is the distribution of what it starts from.
        epoch: For early, after how many epochs, at least 1.
    """

    count: int = 3
    rewind: Literal["init", "early", "random"] = "init"
    epoch: int = 1

    def __post_init__(self) -> None:
        """Checks the options."""
        _check_rounds("ticket", self.count)
        if self.rewind not in ("init", "early", "random"):
            raise ConfigurationError(f"ticket: rewind must be init, early or random, not {self.rewind!r}")
        if self.epoch < 1:
            raise ConfigurationError(
                f"ticket: epoch must be at least 1, not {self.epoch}; for the start rewind to init"
            )

    def rounds(self, goal: Goal) -> tuple[Round, ...]:
        """Returns the rounds."""
        if self.rewind == "early" and self.epoch >= goal.train:
            raise ConfigurationError(
                f"ticket: epoch must be before the end of the training of {goal.train} epochs, not {self.epoch}"
            )
        last: Rewind = "redrawn" if self.rewind == "random" else self.rewind
        earlier: Rewind = "init" if self.rewind == "random" else self.rewind
        return tuple(
            Round(
                budget,
                goal.train,
                last if number == self.count else earlier,
                recovery="none",
                retrain=True,
                early=self.epoch,
            )
            for number, budget in enumerate(geometric(goal.budget, self.count), start=1)
        )


@dataclass(frozen=True)
class LearningRateRewinding:
    """Prunes, and trains on with the learning rate set back (Renda et al., 2020, arXiv:2003.02389).

    Weights stay as they are; the last epochs of the training's schedule of the learning rate are played again in every
    round.

    Attributes:
        count: How many rounds.
        epochs: How many of the last epochs are played again; 0 for all.
    """

    count: int = 3
    epochs: int = 0

    def __post_init__(self) -> None:
        """Checks the options."""
        _check_rounds("lr_rewinding", self.count)
        if self.epochs < 0:
            raise ConfigurationError(f"lr_rewinding: epochs must be at least 0, not {self.epochs}")

    def rounds(self, goal: Goal) -> tuple[Round, ...]:
        """Returns the rounds."""
        if self.epochs > goal.train:
            raise ConfigurationError(
                f"lr_rewinding: epochs must be no more than the {goal.train} of the training, not {self.epochs}"
            )
        epochs = self.epochs or goal.train
        return tuple(
            Round(budget, epochs, retrain=True, first=goal.train - epochs, total=goal.train)
            for budget in geometric(goal.budget, self.count)
        )


@dataclass(frozen=True)
class Scratch:
    """Trains the pruned architecture from new weights: is it worth more than its weights? (Liu et al., 2019).

    Paper: arXiv:1810.05270: Scratch-E trains for as many epochs as the dense network had, Scratch-B for as much
    computation, which is more epochs, at most twice as many. The cost in the metric of the budget stands for the
    computation. Layers start as PyTorch's `reset_parameters` has them.

    Attributes:
        match: What is the same as for the dense network: epochs (E) or computation (B).
    """

    match: Literal["epochs", "computation"] = "epochs"

    def __post_init__(self) -> None:
        """Checks the option."""
        if self.match not in ("epochs", "computation"):
            raise ConfigurationError(f"scratch: match must be epochs or computation, not {self.match!r}")

    def rounds(self, goal: Goal) -> tuple[Round, ...]:
        """Returns the one round."""
        longer = 1.0 if self.match == "epochs" else min(2.0, 1 / goal.budget)
        return (Round(goal.budget, int(goal.train * longer), "random", recovery="none", retrain=True),)


def geometric(budget: float, rounds: int) -> list[float]:
    """Returns the shares that are left after each round if every round removes the same share of what is left."""
    return [budget ** (number / rounds) for number in range(1, rounds)] + [budget]


def gradual_share(final: float, step: int, steps: int, exponent: float) -> float:
    """Returns the share removed after a step of the gradual schedule, which starts with none (arXiv:1710.01878)."""
    return final - final * float((1 - step / steps) ** exponent)


def shared(epochs: int, rounds: int) -> list[int]:
    """Divides epochs among rounds, with the remainder in the later ones."""
    least, over = divmod(epochs, rounds)
    return [least + (number >= rounds - over) for number in range(rounds)]


def _check_rounds(name: str, count: int) -> None:
    if count < 1:
        raise ConfigurationError(f"{name}: count must be at least 1 round, not {count}")


def _check_epochs(name: str, count: int, epochs: int) -> None:
    if epochs < count:
        raise ConfigurationError(
            f"the schedule '{name}' needs an epoch for each of its {count} rounds, and there are {epochs}; raise "
            f"--finetune.epochs, or choose fewer rounds: {name}:count={max(1, epochs)}"
        )


for _name, _factory, _summary in (
    ("one_shot", OneShot, "everything at once, then fine-tuning"),
    ("iterative", Iterative, "prune and retrain in turns"),
    ("gradual", Gradual, "prune while training, ever slower (cubic)"),
    ("ticket", Ticket, "iterative pruning, weights rewound to the start (lottery ticket)"),
    ("lr_rewinding", LearningRateRewinding, "iterative pruning, the learning rate rewound"),
    ("scratch", Scratch, "the pruned architecture, trained from new weights"),
):
    SCHEDULES.register(_name, _factory, _summary)
