"""What to say of a folder that has no figures to show: what it is, and what can be done with it."""

from __future__ import annotations

import shlex
from pathlib import Path

from amc.pipeline.kept_run import COMMAND as IN_PYTHON
from amc.report.origin import Origin
from amc.storage.names import AGENT, CHECKPOINT, CONFIG, POLICY, REPORT, REWARDS, REWARDS_TABLE, RUN, SUMMARY, TRAINING


def is_ended_search(folder: Path, origin: Origin | None) -> bool:
    """Returns whether a folder holds a search that has come to its policy; a search has no figures of a network."""
    return origin is not None and origin.command == "search" and (folder / POLICY).is_file()


def without_figures(folder: Path) -> str:
    """Returns why a folder cannot be shown as a run, in one line with the remedy.

    Args:
        folder: A folder without `summary.json`.

    Raises:
        RunFolderError: If its `run.json` is damaged.
    """
    origin, quoted = Origin.read(folder), shlex.quote(str(folder))
    if is_ended_search(folder, origin):
        page = folder / REPORT
        shown = (
            f"its page is {page}" if page.is_file() else f"its page is written by: amc search --out {quoted} --resume"
        )
        return f"{folder} holds a search, which delivers no network; {shown}, and amc prune {quoted} makes the network"
    if (folder / TRAINING).is_file() or (folder / CHECKPOINT).is_file():
        agent = shlex.quote(str(folder / AGENT))
        return (
            f"{folder} holds the training of a policy, which has no page; show the policy with: amc policy show {agent}"
        )
    if (folder / REWARDS).is_file():
        return f"{folder} holds a comparison of rewards, which has no page; its table is {folder / REWARDS_TABLE}"
    remedy = "give the folder that --out named"
    if origin is not None and origin.command == IN_PYTHON:
        remedy = "it has not ended: make the same call to continue it"
    elif (folder / RUN).is_file() or (folder / CONFIG).is_file():
        remedy = "it has not ended: continue it with --resume"
    return f"{folder} must hold a finished run, but has no {SUMMARY}; {remedy}"
