"""What the user allows to be cut, by name: the rules that filter and weight pruning share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amc.problem.patterns import check_patterns, matches


@dataclass(frozen=True)
class KeepRules:
    """How much of every layer stays.

    Attributes:
        min_keep_ratio: Smallest share that is kept.
        max_keep_ratio: Largest share that is kept.
        bounds: Smallest and largest PRUNING ratio by name pattern, in place of the two ratios; the first pattern that
            matches counts.
        exclude: Name patterns of what stays whole.
    """

    min_keep_ratio: float
    max_keep_ratio: float
    bounds: Mapping[str, tuple[float, float]]
    exclude: Sequence[str]

    def check_names(self, names: Iterable[str]) -> None:
        """Checks that every pattern matches something.

        Raises:
            UnknownNameError: If a pattern matches none of the names.
        """
        check_patterns([*self.exclude, *self.bounds], names)

    def excludes(self, names: Sequence[str]) -> bool:
        """Returns whether what goes by any of some names stays whole."""
        return any(matches(names, pattern) for pattern in self.exclude)

    def keep_ratios(self, names: Sequence[str]) -> tuple[float, float]:
        """Returns the smallest and the largest share to keep of what goes by some names."""
        for pattern, (smallest, largest) in self.bounds.items():
            if matches(names, pattern):
                return 1 - largest, 1 - smallest
        return self.min_keep_ratio, self.max_keep_ratio
