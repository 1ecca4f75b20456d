"""Stages that are shown, of work that keeps nothing for a later start."""

from __future__ import annotations

from contextlib import AbstractContextManager

from amc.pipeline.recorder import Recorder
from amc.report.progress_display import ProgressDisplay
from amc.utils.progress import Progress


class ShownStages(Recorder):
    """Shows the stages, and keeps nothing."""

    def __init__(self, display: ProgressDisplay) -> None:
        """Takes the display."""
        self._display = display

    def stage(self, title: str, total: int = 100, unit: str = "%") -> AbstractContextManager[Progress]:
        """Shows a stage; see `Recorder`."""
        return self._display.stage(title, total, unit)
