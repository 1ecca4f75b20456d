"""Measures networks on the test split, and reports the progress."""

from __future__ import annotations

from torch import nn

from amc.pipeline.by_class import Tested, measured_by_class
from amc.pipeline.recorder import Recorder
from amc.pipeline.task import Task
from amc.utils.progress import spanning


def measure_on_test(task: Task, recorder: Recorder, whose: str, *networks: nn.Module) -> list[Tested]:
    """Returns the figures to report of networks, by class where there are classes; see `Task.test`.

    Args:
        task: Has the test split, or the user's own measure.
        recorder: Shows the progress.
        whose: What to call the networks on the screen.
        *networks: The networks.
    """
    if task.measure is not None:
        with recorder.stage(f"measure {whose}", len(networks), "networks") as advance:
            figures = []
            for index, network in enumerate(networks):
                figures.append(measured_by_class(task, network))
                advance((index + 1) / len(networks))
            return figures
    assert task.data is not None
    images = len(networks) * len(task.data.test)
    with recorder.stage(f"test {whose}", images, "images") as advance:
        share = 1 / len(networks)
        return [
            measured_by_class(task, network, spanning(advance, index * share, (index + 1) * share))
            for index, network in enumerate(networks)
        ]
