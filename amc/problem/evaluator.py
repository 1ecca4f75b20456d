"""What scores allocations: one object that searches and environments use and agents can query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from amc.errors import ConfigurationError
from amc.problem.score import ImageScores, Score, Stage
from amc.structure.allocation import Allocation

Saliencies: TypeAlias = Mapping[str, NDArray[np.float64]]
"""By the name of each decision, the scores of its units, shape `(units,)`; higher stays."""

Errors: TypeAlias = Mapping[str, NDArray[np.float64]]
"""By the name of each decision, the error by how many units it keeps, none to all, shape `(units + 1,)`."""


class Evaluator(ABC):
    """Scores the networks that allocations describe, and knows how much each unit matters.

    Your own evaluator needs only `score`: it then has one stage and no saliencies.

    Example:
        >>> class Widest(Evaluator):
        ...     def score(self, allocation):
        ...         return Score(accuracy=float(max(allocation.widths.values())), cross_entropy=0.0)
        >>> Widest().score(Allocation("filter", {"conv1": 7, "conv2": 12})).accuracy
        12.0
    """

    @property
    def tells_images(self) -> bool:
        """Whether its stages tell how a candidate does on each image, so that they can be compared there."""
        return False

    @abstractmethod
    def score(self, allocation: Allocation) -> Score:
        """Scores the network that an allocation describes, on the whole search split."""

    @property
    def side_by_side(self) -> int:
        """How many allocations it scores at the same time, if they are announced together."""
        return 1

    def expect(self, allocations: Sequence[Allocation]) -> None:  # noqa: B027 (to be overridden where it helps)
        """Takes allocations that will be asked for next: an evaluator that can may begin with all of them.

        No score depends on what was announced.
        """

    def stages(self, allocation: Allocation, first: int, rival: ImageScores | None = None) -> Iterator[Stage]:
        """Scores on some images of the search split, then on more and more, as far as the iterator is advanced.

        Score no other allocation before the iterator is done with.

        Args:
            allocation: What is kept.
            first: Images of the first stage; each further stage has half as many more, the last one all.
            rival: How another candidate does on all images, to be compared with on those that this one sees; only for
                evaluators that tell (`tells_images`).
        """
        score = self.score(allocation)
        yield Stage(score, score)

    @property
    def delivers(self) -> bool:
        """Whether delivery refits a network more thoroughly than `score` does, so that `delivered` tells more."""
        return False

    def delivered(self, allocation: Allocation) -> Score:
        """Scores the network as it is delivered, before any training, on the whole search split."""
        return self.score(allocation)

    def saliency(self, criterion: str) -> Saliencies:
        """Scores the units of every decision in the dense network.

        Args:
            criterion: Name of the criterion.

        Raises:
            UnknownNameError: If no criterion has the name.
            ConfigurationError: If the evaluator knows no saliencies, or not this one.
        """
        raise ConfigurationError(
            f"this evaluator scores allocations only and knows no saliency by {criterion!r}; give amc the network and "
            "its data (amc.compress), or choose an agent that needs none, such as 'uniform'"
        )

    def errors(self) -> Errors:
        """Returns the error in the outputs of each decision's layers at every width.

        The evaluator chooses the unit; only sums over the decisions matter.

        Raises:
            ConfigurationError: If the evaluator knows no errors.
        """
        raise ConfigurationError(
            "this evaluator scores allocations only and knows no errors of layers; give amc the network and its data "
            "(amc.compress), or choose an agent that needs none, such as 'uniform'"
        )


class FunctionEvaluator(Evaluator):
    """An evaluator made of a function of the allocation."""

    def __init__(self, function: Callable[[Allocation], Score]) -> None:
        """Takes the function that scores an allocation."""
        self._function = function

    def score(self, allocation: Allocation) -> Score:
        """Calls the function.

        Raises:
            ConfigurationError: If it returns no score.
        """
        score = self._function(allocation)
        if not isinstance(score, Score):
            raise ConfigurationError(
                f"an evaluator must return a Score, such as amc.problem.score.Score(accuracy=90.0, cross_entropy=0.3), "
                f"not {score!r}"
            )
        return score


class EvaluatorProxy(Evaluator):
    """An evaluator that delegates to another; subclasses override a part of it."""

    def __init__(self, evaluator: Evaluator) -> None:
        """Takes the evaluator behind this one."""
        self.inner = evaluator

    @property
    def tells_images(self) -> bool:
        """Whether its stages tell how a candidate does on each image; see `Evaluator`."""
        return self.inner.tells_images

    @property
    def side_by_side(self) -> int:
        """How many the other scores at the same time."""
        return self.inner.side_by_side

    def expect(self, allocations: Sequence[Allocation]) -> None:
        """Announces allocations; see `Evaluator`."""
        self.inner.expect(allocations)

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation; see `Evaluator`."""
        return self.inner.score(allocation)

    def stages(self, allocation: Allocation, first: int, rival: ImageScores | None = None) -> Iterator[Stage]:
        """Scores in stages; see `Evaluator`. Evaluators that do not tell need not know of rivals."""
        return self.inner.stages(allocation, first) if rival is None else self.inner.stages(allocation, first, rival)

    @property
    def delivers(self) -> bool:
        """Whether delivery refits more thoroughly; see `Evaluator`."""
        return self.inner.delivers

    def delivered(self, allocation: Allocation) -> Score:
        """Scores the network as it is delivered; see `Evaluator`."""
        return self.inner.delivered(allocation)

    def saliency(self, criterion: str) -> Saliencies:
        """Scores the units; see `Evaluator`."""
        return self.inner.saliency(criterion)

    def errors(self) -> Errors:
        """Returns the errors by width; see `Evaluator`."""
        return self.inner.errors()


def as_evaluator(given: Evaluator | Callable[[Allocation], Score]) -> Evaluator:
    """Returns an evaluator as it is, and a function of the allocation as an evaluator.

    Raises:
        ConfigurationError: If it is neither.
    """
    if isinstance(given, Evaluator):
        return given
    if not callable(given):
        raise ConfigurationError(f"an evaluator must be an Evaluator or a function of the allocation, not {given!r}")
    return FunctionEvaluator(given)
