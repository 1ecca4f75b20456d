"""What scoring a network on a data split yields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

from amc.structure.allocation import Allocation


@dataclass(frozen=True)
class Score:
    """How well a network does on a data split.

    Attributes:
        accuracy: Top-1 accuracy in percent, 0 to 100.
        cross_entropy: Mean cross-entropy in nats.
        agreement: Percent of the images that the network classifies as the dense network does; NaN if not measured.
        images: How many images were scored.
    """

    accuracy: float
    cross_entropy: float
    agreement: float = math.nan
    images: int = 0

    def as_dict(self) -> dict[str, float]:
        """Returns the fields by name, for JSON."""
        return asdict(self)


Evaluator = Callable[[Allocation], Score]
"""Scores the network that an allocation describes; injected into the environments."""
