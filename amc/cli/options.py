"""From parsed options to a run's configuration."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jsonargparse

from amc.cli.command import Parser
from amc.cli.config_files import FIELDS, config_file_for
from amc.cli.consent import add_trust_option
from amc.cli.spelling import CHOICES, SPELLINGS, read_spellings
from amc.pipeline.config import DEFAULT_WEIGHTS, RunConfig
from amc.report.run_folder import NO_DOWNLOAD
from amc.runtime import resolve_device
from amc.runtime.blocks import settled
from amc.storage.names import CONFIG, DENSE
from amc.utils.conversion import from_mapping

_METAVARS = {
    "model": "NAME",
    "weights": "FILE",
    "agent": "NAME",
    "reward": "NAME",
    "allocation_mode": "NAME",
    "schedule": "NAME",
    "compare": "NAME,NAME",
    "device": "NAME",
    "dtype": "NAME",
    "features": "NAME,NAME",
    "policy": "FILE",
    "data.root": "DIR",
    "pruning.family": "NAME",
    "pruning.criterion": "NAME",
    "pruning.recovery": "NAME",
    "pruning.pattern": "NAME",
    "budget.profile": "FILE",
    "pruning.exclude": "NAME,NAME",
    "pruning.bounds": "PATTERN=MIN:MAX",
    "data.name": "NAME",
    "data.image_column": "NAME",
    "data.label_column": "NAME",
    "data.augment": "NAME",
    "data.broken": "NAME",
    "data.task": "NAME",
    "data.loss": "NAME",
    "data.metric": "NAME",
    "finetune.schedule": "NAME",
    "finetune.optimizer": "NAME",
    "train.optimizer": "NAME",
    "finetune.penalties": "NAME,NAME",
    "train.penalties": "NAME,NAME",
    "train.head": "NAME,NAME",
    "finetune.keep": "NAME",
    "finetune.freeze": "NAME",
    "finetune.dropout": "NAME",
    "finetune.dtype": "NAME",
    "finetune.decay_by_layer": "PATTERN=N",
    "train.decay_by_layer": "PATTERN=N",
    "train.schedule": "NAME",
    "train.keep": "NAME",
    "train.dtype": "NAME",
}
_WITHOUT_EFFECT = (
    "train.distillation",
    "train.temperature",
    "train.feature_distillation",
    "train.freeze",
    "train.dropout",
)
"""Options that training from scratch inherits but cannot use, since it has no teacher."""

WITHOUT_SEARCH = (
    "agent",
    "episodes",
    "reward",
    "allocation_mode",
    "first_images",
    "features",
    "policy",
    "schedule",
    "compare",
    "dtype",
    "train",
    "train_first",
    "untrained",
)
"""Options that a command does not use that neither searches nor trains the dense network."""


def add_run_options(
    parser: jsonargparse.ArgumentParser, hide: Collection[str] = (), *, shares_trainings: bool = False
) -> None:
    """Adds `--config` and every option of `RunConfig`, sections as groups.

    Args:
        parser: The subcommand's parser.
        hide: Options, or whole sections, that the subcommand does not use. They are rejected on the command line; in a
            file they are ignored, with a line that says so, so that one file serves all subcommands.
        shares_trainings: Whether several processes may share the subcommand's trainings.
    """
    parser.add_argument(
        "--config",
        action="config",
        metavar="FILE",
        help="YAML file with any of the options below, or the name of one that comes with amc.",
    )
    parser.add_class_arguments(RunConfig, as_group=True)
    add_trust_option(parser)
    parser.add_argument(
        "--download_weights",
        "--weights.download",
        metavar="true|false",
        type=bool,
        default=False,
        help="Download the weights of --weights DEFAULT if this machine does not have them.",
    )
    add_progress_option(parser)
    hide = {*hide, *_WITHOUT_EFFECT, *(() if shares_trainings else ("devices",))}
    for action in parser._actions:
        if action.dest in SPELLINGS or action.dest in CHOICES:
            _take_any_form(action)
        if action.dest in hide or action.dest.partition(".")[0] in hide:
            action.help = argparse.SUPPRESS
        elif "CONFIG" in str(action.metavar) and action.dest in FIELDS:
            action.help = argparse.SUPPRESS  # jsonargparse offers a file for every section; one for the run is enough
        elif action.dest in _METAVARS:
            action.metavar = _METAVARS[action.dest]
        elif action.dest == "print_config":
            action.help = "Print the resulting configuration as YAML, and exit."
        elif action.dest.partition(".")[0] in FIELDS and action.metavar != "FILE":
            action.metavar = "true|false" if _is_switch(action) else "N"
    for group in parser._action_groups:
        if all(action.help == argparse.SUPPRESS for action in group._group_actions):
            group.title = group.description = None
    if isinstance(parser, Parser):
        parser.check_config_file = partial(config_file_for, parser.prog, hidden=hide)


def add_progress_option(parser: jsonargparse.ArgumentParser) -> None:
    """Adds `--progress`."""
    parser.add_argument(
        "--progress",
        metavar="true|false",
        type=bool,
        default=True,
        help="Show on stderr how far the work is and how much time is left.",
    )


def _take_any_form(action: argparse.Action) -> None:
    """Lets an option take any form, text or YAML; it is checked where it is read."""
    action._typehint = Any  # type: ignore[attr-defined]
    if isinstance(action.default, tuple):
        action.default = list(action.default)  # as in YAML


def _is_switch(action: argparse.Action) -> bool:
    """Returns whether an option is true or false."""
    return "bool" in str(getattr(action, "_typehint", "")) or isinstance(action.default, bool)


def run_config(options: jsonargparse.Namespace) -> RunConfig:
    """Returns the configuration that the options describe, with a file in place of `--weights DEFAULT`.

    Raises:
        ConfigurationError: If a value has the wrong type.
        CheckpointError: If published weights are asked for, but are not here and may not be downloaded.
    """
    record = read_spellings(options.as_dict())
    config = from_mapping(RunConfig, {name: value for name, value in record.items() if name in FIELDS})
    # Written out, as in auto:16, so that a run that is resumed elsewhere keeps its widths.
    step = settled(config.pruning.round_to, resolve_device(config.device))
    config = replace(config, pruning=replace(config.pruning, round_to=step))
    if config.weights != DEFAULT_WEIGHTS:
        return config
    from amc.cli.setup import with_published_weights  # here, as it loads PyTorch

    return with_published_weights(config, options)


def add_output_options(
    parser: jsonargparse.ArgumentParser, text: str = "Folder of the run; unset: a new one in runs/."
) -> None:
    """Adds `--out`, explained by `text`, and `--resume`."""
    parser.add_argument("--out", metavar="DIR", type=str | None, default=None, help=text)
    parser.add_argument(
        "--resume", action="store_true", help="Continue the run in --out, with the options that it was started with."
    )
    parser.add_argument(
        "--mix_scores",
        action="store_true",
        help="Resume even if device, number of threads or versions differ from those that scored the episodes.",
    )


def options_of_run(folder: Path) -> list[str]:
    """Returns the options of an earlier run, with the dense network that it has trained."""
    front = ["--config", str(folder / CONFIG), *NO_DOWNLOAD] if (folder / CONFIG).is_file() else []
    if (folder / DENSE).is_file():
        front += ["--weights", str(folder / DENSE), "--train_first", "false"]
    return front
