"""A pruning problem and its evaluator in one call, for learners of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from amc.costs import Budget
from amc.data import DataRoles
from amc.latency.target import LatencyTarget
from amc.pipeline.deliver import Workshop
from amc.pipeline.own_task import OwnTask, given_by
from amc.pipeline.prepare import prepare
from amc.pipeline.recorder import Recorder, ShowingRecorder
from amc.problem import PruningProblem
from amc.problem.evaluator import Evaluator
from amc.pruning import PruningConfig
from amc.runtime.plain import plain_network
from amc.training import FineTuneConfig
from amc.utils.progress_display import ProgressDisplay

if TYPE_CHECKING:
    from amc.data.adapters import DataLike


def make_problem(
    model: nn.Module,
    data: DataRoles | Sequence[DataLike] | OwnTask,
    budget: Budget | None = None,
    *,
    pruning: PruningConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> tuple[PruningProblem, Evaluator]:
    """Makes what an environment needs, as `amc.compress` does: the traced problem, and an evaluator with its tables.

    Args:
        model: The trained dense network.
        data: As for `amc.compress`.
        budget: What the smaller network may cost; half the FLOPs if not given.
        pruning: What is removed and how the rest makes up for it.
        seed: Seed of everything random.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        progress: Whether to show progress on stderr, if the tables take more than two seconds.

    Returns:
        The problem, and the evaluator that scores candidates on the search split.

    Raises:
        AmcError: If anything given cannot be used.

    Example:
        >>> import amc, envs, gymnasium
        >>> from amc.data import DataConfig, load_data
        >>> digits = load_data(DataConfig(train_images=200, test_images=50))
        >>> problem, evaluator = envs.make_problem(amc.create_model("digits_resnet", seed=0), digits)
        >>> env = gymnasium.make(envs.FILTER_PRUNING, problem=problem, evaluator=evaluator)
        >>> env.reset(seed=0)[0].shape
        (11,)
    """
    given = given_by(data, seed)
    task = prepare(
        plain_network(model),
        given.data,
        budget or Budget(flops=0.5),
        pruning=pruning or PruningConfig(),
        finetune=FineTuneConfig(epochs=0),
        evaluate=given.evaluate,
        calibration=given.calibration,
        example_input=given.example_input,
        seed=seed,
        device=device,
        latency=LatencyTarget.of(budget),
    )
    recorder = ShowingRecorder(ProgressDisplay(only_slow=True)) if progress else Recorder()
    return task.problem, Workshop(task, recorder).evaluator
