"""Measuring networks on the test split, with progress for whoever watches."""

from __future__ import annotations

from torch import nn

from amc.pipeline.recorder import Recorder
from amc.pipeline.task import Task
from amc.utils.progress import spanning


def measure_on_test(task: Task, recorder: Recorder, whose: str, *networks: nn.Module) -> list[float]:
    """Returns the figures to report of networks; see `Task.test`.

    Args:
        task: Bears the test split, or the user's own measure.
        recorder: Shows the progress.
        whose: Names the networks, for people.
        *networks: The networks.
    """
    if task.measure is not None:
        with recorder.stage(f"measure {whose}", len(networks), "networks") as advance:
            figures = []
            for index, network in enumerate(networks):
                figures.append(task.test(network))
                advance((index + 1) / len(networks))
            return figures
    assert task.data is not None
    images = len(networks) * len(task.data.test)
    with recorder.stage(f"test {whose}", images, "images") as advance:
        share = 1 / len(networks)
        return [
            task.test(network, spanning(advance, index * share, (index + 1) * share))
            for index, network in enumerate(networks)
        ]
