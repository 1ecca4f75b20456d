"""What a compression returns."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from agents import EpisodeResult
from amc.errors import RunFolderError
from amc.pipeline.episodes import episode_line
from amc.pipeline.model_card import model_card
from amc.pipeline.summary import policy_record
from amc.problem import PruningProblem
from amc.storage.folder_kinds import A_RUN, check_kind
from amc.storage.names import EPISODES, MODEL_CARD, POLICY, PREPROCESSING, RUN, SUMMARY
from amc.storage.save import save_network
from amc.structure import Allocation
from amc.utils.durable_files import write_text
from amc.utils.json_files import write_json


@dataclass(frozen=True)
class CompressionResult:
    """What `compress` returns.

    Attributes:
        model: The smaller network, fine-tuned, in evaluation mode on the CPU.
        allocation: What every layer keeps.
        summary: The figures, as `summary.json` holds them.
        episodes: The search, episode by episode.
        baselines: Figures of the agents compared with, by name, their allocations included.
        problem: The decisions and the budget.
        architecture: How the dense network was cut, as `architecture.json` holds it.
        preprocessing: How images are prepared for the network, as in `preprocessing.json`; None for the user's own
            data.
    """

    model: nn.Module = field(repr=False)
    allocation: Allocation
    summary: dict[str, Any]
    episodes: list[EpisodeResult] = field(repr=False)
    baselines: dict[str, dict[str, Any]] = field(repr=False)
    problem: PruningProblem = field(repr=False)
    architecture: dict[str, Any] = field(repr=False)
    preprocessing: dict[str, Any] | None = None

    @property
    def policy(self) -> dict[str, Any]:
        """The allocation with its pruning ratios (fractions removed), as `policy.json` holds it."""
        return policy_record(self.problem, self.allocation)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes network, policy, episodes and figures into a folder; `amc.load` reads the network.

        Raises:
            RunFolderError: If the folder cannot be written, or holds a run of the command line, a study or a training.
        """
        check_kind(Path(path), A_RUN)
        if (Path(path) / RUN).exists():
            raise RunFolderError(f"{path} holds a run of the command line, to be resumed; save in another folder")
        self.write(Path(path))

    def write(self, folder: Path) -> None:
        """Writes the same files into any folder, over those that are there.

        Raises:
            RunFolderError: If the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_network(folder, self.model, self.architecture)
            write_json(folder / POLICY, self.policy)
            write_text(folder / EPISODES, "".join(episode_line(episode) for episode in self.episodes))
            write_json(folder / SUMMARY, self.summary)
            write_text(folder / MODEL_CARD, model_card(self.summary, self.preprocessing))
            if self.preprocessing is not None:
                write_json(folder / PREPROCESSING, self.preprocessing)
        except OSError as error:
            raise RunFolderError(f"the folder to save in must be writable: {error}") from error
