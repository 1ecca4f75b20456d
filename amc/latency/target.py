"""The device of a time budget: its profile, and the fitted latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amc.costs import Budget
from amc.costs.stepped_cost import SteppedCost
from amc.errors import BudgetError
from amc.latency.check import errors_of, refuse_unsure
from amc.latency.device_script import processor_name
from amc.latency.fit import FittedLatency, fit_latency
from amc.latency.profile_file import ENGINES, Profile, read_profile
from amc.problem.space import DecisionSpace
from amc.structure import ModelStructure


@dataclass(frozen=True)
class LatencyTarget:
    """What a time budget needs to know about a device.

    Attributes:
        profile: What was measured.
        fitted: The latency as a function of the widths.
        check: Its errors on unseen networks; see `amc.latency.check.errors_of`.
    """

    profile: Profile
    fitted: FittedLatency
    check: Mapping[str, float]

    @staticmethod
    def read(path: Path, *, insist: bool = False) -> LatencyTarget:
        """Reads a profile, and fits and checks its model.

        Args:
            path: The file.
            insist: Whether to accept a model with large errors.

        Raises:
            ConfigurationError: If the file is not a profile.
            BudgetError: If it is unfinished, or too far from what was measured.
        """
        profile = read_profile(path)
        if profile.engine not in ENGINES:
            raise BudgetError(
                f"{path} is of the engine {profile.engine!r}, and networks are timed here in {' and '.join(ENGINES)}"
            )
        if not profile.finished:
            raise BudgetError(
                f"{path} holds {len(profile.networks)} of {profile.planned} networks; run the "
                "same command again to continue it"
            )
        fitted = fit_latency(profile)
        check = errors_of(profile, fitted)
        refuse_unsure(check, insist=insist)
        return LatencyTarget(profile, fitted, check)

    @staticmethod
    def of(budget: Budget | None) -> LatencyTarget | None:
        """Returns the device that a budget names by its profile; None if it names none.

        Raises:
            ConfigurationError: If the file is not a profile.
            BudgetError: If it is unfinished, or too far from what was measured.
        """
        return None if budget is None or budget.profile is None else LatencyTarget.read(Path(budget.profile))

    @property
    def is_here(self) -> bool:
        """Whether the profile was measured on a processor like this one."""
        return self.profile.processor == processor_name()

    def cost_model(self, structure: ModelStructure, groups: Sequence[int]) -> SteppedCost:
        """Returns the latency in nanoseconds as a function of how many channels some groups keep.

        Args:
            structure: The traced network.
            groups: Index of the channel group that each decision is about.

        Raises:
            BudgetError: If the profile is of another network.
        """
        decided = [structure.groups[index] for index in groups]
        for group in decided:
            known = self.profile.decisions.get(group.name)
            if known != group.channels:
                found = "does not vary it" if known is None else f"knows it with {known}"
                raise BudgetError(
                    f"the profile must be of this network, but is of {self.profile.model}: {group.name} has "
                    f"{group.channels} channels, and the profile {found}; run 'amc profile' with the same --model and "
                    "--pruning options"
                )
        return self.fitted.cost_of([group.name for group in decided], [group.channels for group in decided])

    def check_steps(self, space: DecisionSpace) -> None:
        """Checks that widths are multiples of the profile's steps: other networks may be slower than the dense one.

        Raises:
            BudgetError: If a decision takes others.
        """
        for decision in space.decisions:
            step = self.profile.steps[decision.name]
            if decision.step % step:
                raise BudgetError(
                    f"the profile was measured at multiples of {step} for {decision.name}, and widths are multiples of "
                    f"{decision.step}: leave --pruning.round_to as it was for 'amc profile', or profile again with it"
                )
