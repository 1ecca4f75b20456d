"""A training that is to be done, and where: in one process, or in several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from amc.data.splits import DataRoles
from amc.runtime.collectives import ALONE, Collectives
from amc.runtime.device import DeviceLike
from amc.training.config import FineTuneConfig
from amc.training.terms import Term


@dataclass(frozen=True)
class Work:
    """A training; see `amc.training.fine_tune` for the attributes, of which the settings are fitted to the data."""

    model: nn.Module
    data: DataRoles
    config: FineTuneConfig
    teacher: nn.Module | None = None
    seed: int = 0
    device: DeviceLike = "auto"
    terms: Sequence[Term] = ()
    first_epoch: int = 0
    schedule_epochs: int | None = None


class Processes:
    """The processes that share trainings; this is the one that asks for them, alone.

    Attributes:
        size: How many there are.
    """

    size: int = 1

    def check(self, work: Work) -> None:
        """Refuses what these processes cannot train.

        Raises:
            ConfigurationError: If it is something that the user can change.
        """

    @contextmanager
    def sharing(self, work: Work) -> Iterator[Collectives]:
        """Has the other processes do the same work as long as the context lasts."""
        yield ALONE


ONE = Processes()
"""The process that asks, alone."""
