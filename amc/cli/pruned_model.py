"""`--model RUN`: an earlier run's pruned network in place of a dense one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from amc.cli.sparsity import is_sparse
from amc.cli.words import option_value
from amc.errors import ConfigurationError
from amc.pipeline.config import RunConfig
from amc.report.run_folder import NO_DOWNLOAD
from amc.storage.names import ARCHITECTURE, CONFIG, WEIGHTS


def pruned_run(model: str) -> Path | None:
    """Returns the folder that a model's name stands for, if it has a pruned network."""
    folder = Path(model).expanduser()
    return folder if (folder / ARCHITECTURE).is_file() else None


def options_of_model(words: Sequence[str]) -> list[str]:
    """Returns the options of the run that `--model` names, such as its data; none if it does not name a run.

    Those on the command line or in its own files come after them.
    """
    folder = pruned_run(option_value(words, "--model") or "")
    if folder is None or option_value(words, "--config") is not None or not (folder / CONFIG).is_file():
        return []
    return ["--config", str(folder / CONFIG), *NO_DOWNLOAD]


def settle_model(config: RunConfig, words: Sequence[str]) -> RunConfig:
    """Returns a configuration whose model, if it is a run, has a full path and is not trained first.

    Raises:
        ConfigurationError: If weights are given as well, or the run has pruned single weights.
    """
    folder = pruned_run(config.model)
    if folder is None:
        return config
    if option_value(words, "--weights") is not None or config.classes is not None:
        raise ConfigurationError(
            f"--model {config.model} is a run with weights and classes of its own; leave --weights and --classes out"
        )
    if is_sparse(folder, config):
        raise ConfigurationError(
            f"--model takes runs that have pruned filters, and {config.model} has lost single weights, which pruning "
            "again would not keep at zero; name the dense network"
        )
    return replace(config, model=str(folder.absolute()), weights=None, train_first=False)


def network_file(config: RunConfig) -> dict[str, Path]:
    """Returns the file of the network that a run starts from, if it is another run's, to record it as an input."""
    folder = pruned_run(config.model)
    return {} if folder is None else {"network": folder / WEIGHTS}
