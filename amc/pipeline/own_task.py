"""A task that the user's own function judges, in place of the accuracy on data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from amc.data import DataRoles, roles_of_pair
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from amc.data.adapters import DataLike


@dataclass(frozen=True, eq=False)
class OwnTask:
    """Given in place of data where a function of your own judges networks, for any other task.

    One of `data`, `calibration` and `example_input` is needed, to trace the network.

    Attributes:
        evaluate: Figure of merit of a network, higher is better. It serves the search AND the report, so let it read no
            test data. Networks come on the device of the run, in their own number format; a candidate's batch norms are
            re-estimated where there is data or `calibration`.
        data: Data as for `amc.compress`, to fine-tune on and to gather statistics from.
        calibration: A few hundred training inputs without targets, for tables, refit and batch norms: a tensor, a tuple
            or a mapping of arguments with a common first axis, or an iterable of batches of these. With `data` it
            stands in for the data's own.
        example_input: One input of the network: a tensor with a batch axis, a tuple, or a mapping of keyword arguments;
            the first of `calibration` or an image of `data` if not given.

    Raises:
        ConfigurationError: If `evaluate` is not a function.

    Example:
        >>> import amc, torch
        >>> task = amc.OwnTask(lambda network: 1.0, example_input=torch.zeros(1, 1, 8, 8))
        >>> model = amc.create_model("digits_resnet", seed=0)
        >>> result = amc.compress(model, task, amc.Budget(flops=0.5), agent="uniform")
        >>> flops = result.summary["costs"]["flops"]
        >>> flops["pruned"] <= 0.5 * flops["dense"]
        True
    """

    evaluate: Callable[[nn.Module], float]
    data: DataRoles | Sequence[DataLike] | None = None
    calibration: Any | None = None
    example_input: Any | None = None

    def __post_init__(self) -> None:
        """Checks the function."""
        if not callable(self.evaluate) or isinstance(self.evaluate, type):
            raise ConfigurationError(
                "evaluate must be a function of a network that returns a number, higher is better, "
                f"not {self.evaluate!r}"
            )


@dataclass(frozen=True, eq=False)
class Given:
    """What a call works on, with the data in its four roles.

    Attributes:
        data: The data; None where the task is the user's own and needs none.
        evaluate: The user's own figure of merit, if there is one.
        calibration: Inputs without targets, if there are some.
        example_input: One input of the network, if it is given.
    """

    data: DataRoles | None
    evaluate: Callable[[nn.Module], float] | None = None
    calibration: Any | None = None
    example_input: Any | None = None


def given_by(data: OwnTask | DataRoles | Sequence[DataLike], seed: int) -> Given:
    """Returns the data, or the task, that a call gives.

    Args:
        data: What the user has given.
        seed: Seed for drawing the roles.

    Raises:
        ConfigurationError: If nothing is given.
        DataError: If it is no data.
    """
    if data is None:
        raise ConfigurationError(
            "without data give your own measure of a network: amc.OwnTask(evaluate=..., example_input=...)"
        )
    if not isinstance(data, OwnTask):
        return Given(_roles(data, seed))
    roles = None if data.data is None else _roles(data.data, seed)
    return Given(roles, data.evaluate, data.calibration, data.example_input)


def _roles(data: DataRoles | Sequence[DataLike], seed: int) -> DataRoles:
    return data if isinstance(data, DataRoles) else roles_of_pair(data, seed=seed)
