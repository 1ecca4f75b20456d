"""The objective of a training: a sum of terms, each of which may also act after every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from amc.data.tasks import CLASSIFICATION, TaskType
from amc.training.config import FineTuneConfig
from amc.training.features import FeatureDistillation
from amc.training.losses import split_output
from amc.training.penalties.registry import PENALTIES
from amc.training.retraining import Frozen, PrunedDropout
from amc.training.terms import Batch, Term, Training
from amc.utils.options import create

_AUXILIARY_WEIGHT = 0.3  # Szegedy et al., "Going Deeper with Convolutions", 2015, section 5


class Targets(Term):
    """The task's loss of the main output."""

    def __init__(self, task: TaskType, label_smoothing: float = 0.0, weight: float = 1.0) -> None:
        """Takes the task.

        Args:
            task: Compares outputs with targets.
            label_smoothing: Share of the target that is spread over all classes.
            weight: Of the main output's loss.
        """
        self._task, self._smoothing, self._weight = task, label_smoothing, weight

    def loss(self, batch: Batch) -> Tensor:
        """Returns the weighted loss of the main output."""
        return self._weight * self._task.loss_of(split_output(batch.output)[0], batch.targets, self._smoothing)


class Auxiliary(Term):
    """The task's loss of auxiliary outputs, which GoogLeNet and Inception return in training; see `split_output`.

    Each weighs 0.3, and none is distilled.
    """

    def __init__(self, task: TaskType, label_smoothing: float = 0.0, outputs: slice = slice(None)) -> None:
        """Takes the task.

        Args:
            task: Compares outputs with targets.
            label_smoothing: Share of the target that is spread over all classes.
            outputs: Which of them.
        """
        self._task, self._smoothing, self._outputs = task, label_smoothing, outputs

    def loss(self, batch: Batch) -> Tensor | None:
        """Returns 0.3 times the sum of the auxiliary outputs' losses."""
        losses = [
            _AUXILIARY_WEIGHT * self._task.loss_of(extra, batch.targets, self._smoothing)
            for extra in split_output(batch.output)[1][self._outputs]
        ]
        return total(losses)


class DistilledOutputs(Term):
    """Keeps the network's outputs close to those of the dense network, both softened by a temperature.

    Knowledge distillation (Hinton et al., 2015, arXiv:1503.02531, section 2).
    """

    needs_teacher = True

    def __init__(self, task: TaskType, weight: float, temperature: float) -> None:
        """Takes the task, the weight of the term, and the temperature."""
        self._task, self._weight, self._temperature = task, weight, temperature

    def loss(self, batch: Batch) -> Tensor:
        """Returns the weighted divergence."""
        assert batch.teacher is not None
        output = split_output(batch.output)[0]
        return self._weight * self._task.distillation(output, batch.teacher, self._temperature)


class DistilledFeatures(Term):
    """Keeps the inputs of the network's layers close to those of the dense network's layers; see `features`."""

    needs_teacher = True

    def __init__(self, features: FeatureDistillation, weight: float) -> None:
        """Takes the features to compare, and the weight of the term."""
        self._features, self._weight, self._watching = features, weight, ExitStack()

    def attach(self, training: Training) -> None:
        """Starts to remember the features of both networks while the network trains."""
        self._features.collectives = training.collectives
        self._watching.enter_context(self._features.watching(only_in_training=True))

    def loss(self, batch: Batch) -> Tensor:
        """Returns the weighted mean relative error."""
        return self._weight * self._features.loss()

    def detach(self) -> None:
        """Stops watching."""
        self._watching.close()


class AfterStep(Term):
    """Calls a function with the network after every step, for example to re-apply the masks of weight pruning."""

    def __init__(self, function: Callable[[nn.Module], object]) -> None:
        """Takes the function."""
        self._function = function
        self._model: nn.Module | None = None

    def attach(self, training: Training) -> None:
        """Remembers the network."""
        self._model = training.model

    def after_step(self, rate: float) -> None:
        """Calls the function."""
        self._function(self._model)  # type: ignore[arg-type]


class Objective:
    """The sum of some terms.

    Attributes:
        terms: In the order in which they are added.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        """Takes the terms."""
        self.terms = tuple(terms)

    @property
    def needs_teacher(self) -> bool:
        """Whether the dense network has to run, too."""
        return any(term.needs_teacher for term in self.terms)

    @contextmanager
    def attached(self, training: Training) -> Iterator[None]:
        """Attaches all terms, and always detaches them at the end, the last first."""
        with ExitStack() as stack:
            for term in self.terms:
                stack.callback(term.detach)
                term.attach(training)
            yield

    def loss(self, batch: Batch) -> Tensor:
        """Returns the sum, a scalar in float32."""
        losses = (term.loss(batch) for term in self.terms)
        found = total([loss for loss in losses if loss is not None])
        assert found is not None
        return found

    def after_step(self, rate: float) -> None:
        """Lets every term act on the network."""
        for term in self.terms:
            term.after_step(rate)

    def state(self) -> list[dict[str, Any]]:
        """Returns the state of the terms, for a resumed training."""
        return [term.state() for term in self.terms]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restores what `state` returned."""
        for term, state in zip(self.terms, states, strict=True):
            term.restore(state)


def objective_of(
    config: FineTuneConfig,
    task: TaskType = CLASSIFICATION,
    *,
    has_teacher: bool = False,
    features: FeatureDistillation | None = None,
    others: Sequence[Term] = (),
    dense: nn.Module | None = None,
) -> Objective:
    """Returns the objective that settings describe.

    Args:
        config: Weights and options of the terms.
        task: What is trained.
        has_teacher: Whether there is a dense network to distil from.
        features: Its features to compare; None for none.
        others: Terms that are added last.
        dense: The dense network, for dropout that depends on how much of it is left.
    """
    distillation = config.distillation if has_teacher else 0.0
    smoothing = config.label_smoothing
    terms: list[Term] = [Targets(task, smoothing, 1 - distillation)]
    if distillation:
        terms.append(DistilledOutputs(task, distillation, config.temperature))
    terms += [Auxiliary(task, smoothing, part) for part in (slice(0, 1), slice(1, None))]  # one after another
    if features is not None:
        terms.append(DistilledFeatures(features, config.feature_distillation))
    if config.freeze != "none":
        terms.append(Frozen(config.freeze))
    if config.dropout == "pruned":
        terms.append(PrunedDropout(dense))
    penalties = [create(PENALTIES, penalty) for penalty in config.penalties]
    return Objective([*terms, *penalties, *others])


def total(losses: Sequence[Tensor]) -> Tensor | None:
    """Returns the sum of some losses, from the first to the last; None if there are none."""
    found = None
    for loss in losses:
        found = loss if found is None else found + loss
    return found
