"""The optimisers of a training, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import nn

from amc.errors import ConfigurationError, ModelError, UnknownNameError
from amc.utils.options import Choice, Chosen, choose, create
from amc.utils.registry import Registry

Groups = Sequence[dict[str, Any]]


class Settings(Protocol):
    """The settings of a training that concern the optimiser; see `amc.training.FineTuneConfig`."""

    @property
    def optimizer(self) -> Chosen:
        """The optimiser's name, with or without options."""
        ...

    @property
    def momentum(self) -> float:
        """Momentum of SGD."""
        ...

    @property
    def nesterov(self) -> bool:
        """Whether it is Nesterov's."""
        ...

    @property
    def weight_decay(self) -> float:
        """L2 penalty, or decay."""
        ...

    @property
    def decay_norms(self) -> bool:
        """Whether it covers vectors, too."""
        ...

    @property
    def decay_by_layer(self) -> Mapping[str, float]:
        """The penalty of some layers, by name pattern."""
        ...


class OptimizerChoice(Protocol):
    """Makes the optimiser of a training."""

    def over(self, groups: Groups, config: Settings) -> torch.optim.Optimizer:
        """Returns the optimiser.

        Args:
            groups: Groups of parameters, each with its weight decay.
            config: The settings of the training; every step sets the learning rate.
        """
        ...


@dataclass(frozen=True)
class Sgd:
    """SGD with the momentum of the settings (Sutskever et al. 2013)."""

    def over(self, groups: Groups, config: Settings) -> torch.optim.Optimizer:
        """Returns the optimiser; see `OptimizerChoice`."""
        return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum, nesterov=config.nesterov)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101).

    Attributes:
        betas: Decay of the averages of gradients and of their squares.
        eps: Added to the denominator.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Checks the options."""
        if not all(0 <= beta < 1 for beta in self.betas) or self.eps <= 0:
            raise ConfigurationError(
                f"adamw: betas must be in [0, 1) and eps positive, not {list(self.betas)}, {self.eps}"
            )

    def over(self, groups: Groups, config: Settings) -> torch.optim.Optimizer:
        """Returns the optimiser; see `OptimizerChoice`."""
        return torch.optim.AdamW(groups, lr=0.0, betas=self.betas, eps=self.eps)


class TorchOptimizer:
    """Any optimiser of `torch.optim` that steps without a closure and takes a weight decay and parameters of any shape.

    Not taken are Adafactor, LBFGS, Muon, Rprop and SparseAdam.
    """

    def __init__(self, kind: str, **options: Any) -> None:
        """Takes the class.

        Args:
            kind: Its name in `torch.optim`, such as `"NAdam"`.
            **options: Its own options, without parameters, learning rate and weight decay.

        Raises:
            UnknownNameError: If there is no such class.
            ConfigurationError: If it has no such option, or one that it has cannot be used.
        """
        known = _steppable()
        if kind not in known:
            raise UnknownNameError("optimiser of torch.optim", kind, known)
        self._class, self._options = known[kind], options
        taken = set(inspect.signature(self._class).parameters) - {"params", "lr", "weight_decay"}
        for name in options.keys() - taken:
            raise UnknownNameError(f"option of torch.optim.{kind}", name, taken)
        try:
            self.over([{"params": [nn.Parameter(torch.zeros(1))]}])
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"torch.optim.{kind} must take {options}: {error}") from error

    def over(self, groups: Groups, config: Settings | None = None) -> torch.optim.Optimizer:
        """Returns the optimiser; see `OptimizerChoice`."""
        return self._class(groups, lr=1e-3, **self._options)


OPTIMIZERS: Registry[Callable[..., OptimizerChoice]] = Registry("optimiser", "amc.optimizers", method="over")
"""Every optimiser's factory by name; see `amc.utils.options`."""

OPTIMIZERS.register("sgd", Sgd, "SGD with the momentum of the settings")
OPTIMIZERS.register("adamw", AdamW, "Adam with decoupled weight decay")
OPTIMIZERS.register("torch", TorchOptimizer, "others of torch.optim, by their own names: NAdam, RMSprop, ...")


def spell_optimizer(chosen: Chosen) -> str:
    """Returns the choice of an optimiser as text; a class of `torch.optim` may be chosen by its own name.

    Raises:
        ConfigurationError: If it is malformed.
    """
    choice = choose(OPTIMIZERS, chosen)
    if choice.name in OPTIMIZERS or choice.name not in _steppable():
        return str(choice)
    if choice.name.lower() in OPTIMIZERS:  # SGD, AdamW
        return str(Choice(choice.name.lower(), choice.options))
    return str(Choice("torch", {"kind": choice.name, **choice.options}))


def optimizer_over(model: nn.Module, config: Settings) -> torch.optim.Optimizer:
    """Returns the optimiser over all trainable parameters: matrices, vectors, and what has its own decay, in groups.

    Raises:
        ModelError: If no parameter is trainable.
        UnknownNameError: If a pattern of `decay_by_layer` matches none.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named:
        raise ModelError("a network to train must have parameters that require gradients; this one has none")
    decays = _own_decays(named, config.decay_by_layer)
    vectors = [parameter for name, parameter in named.items() if name not in decays and parameter.dim() <= 1]
    others = [parameter for name, parameter in named.items() if name not in decays and parameter.dim() > 1]
    decay = config.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": others, "weight_decay": decay},
        {"params": vectors, "weight_decay": decay if config.decay_norms else 0.0},
    ]
    for own in dict.fromkeys(decays.values()):
        groups.append({"params": [named[name] for name, value in decays.items() if value == own], "weight_decay": own})
    return create(OPTIMIZERS, config.optimizer).over([group for group in groups if group["params"]], config)


def _own_decays(names: Iterable[str], by_pattern: Mapping[str, float]) -> dict[str, float]:
    """Returns the decay of parameters that a pattern matches, or matches the layer of.

    Raises:
        UnknownNameError: If a pattern matches none.
    """
    names, found = list(names), dict[str, float]()
    for pattern, decay in by_pattern.items():
        matched = [
            name for name in names if any(fnmatchcase(part, pattern) for part in (name, name.rpartition(".")[0]))
        ]
        if not matched:
            raise UnknownNameError("layer to train (decay_by_layer)", pattern, names)
        found = dict.fromkeys(matched, decay) | found
    return found


def _steppable() -> dict[str, Callable[..., torch.optim.Optimizer]]:
    """Returns the classes of `torch.optim` that have a learning rate and step without a closure."""
    return {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type)
        and issubclass(kind, torch.optim.Optimizer)
        and name not in ("Optimizer", "LBFGS", "SparseAdam", "Muon", "Adafactor")
        and "weight_decay" in inspect.signature(kind).parameters
    }
