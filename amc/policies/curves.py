"""The curves of a training, for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from amc.policies.policy_training import OnFigures
from amc.report.run_recorder import summary_writer


@contextmanager
def curves_in(folder: Path) -> Iterator[OnFigures]:
    """Opens an event file in a folder, and yields a function that takes figures."""
    writer = summary_writer(folder)

    def on_figures(of: str, episode: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(f"{of.replace(' ', '/')}/{name.replace(' ', '_')}", value, episode)

    try:
        yield on_figures
    finally:
        writer.close()
