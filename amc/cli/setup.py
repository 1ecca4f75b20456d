"""From a run's configuration to its network and data."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import jsonargparse
import torch
from torch import Tensor, nn

from amc.cli.pruned_model import pruned_run
from amc.cli.resume import check_started_from
from amc.costs import Budget
from amc.data import DataConfig, DataRoles, load_data
from amc.errors import ConfigurationError, DataError
from amc.latency.target import LatencyTarget
from amc.models import create_model, example_input_shape, is_own_code, load_weights
from amc.models.factory import find_factory
from amc.models.published import own_weights
from amc.models.quick_weights import QuickWeights
from amc.models.weights import check_exists
from amc.pipeline.config import RunConfig
from amc.pipeline.prepare import prepare
from amc.pipeline.task import Task, example_of
from amc.runtime.call import failure_of
from amc.storage.example_input import random_input
from amc.storage.load import load, read_architecture
from amc.storage.source import ModelSource
from amc.training import TrainConfig
from amc.training.defaults import with_epochs
from amc.training.work import ONE, Processes
from amc.utils.counted import counted
from amc.utils.options import Chosen
from amc.utils.progress import Progress
from amc.utils.progress_display import ProgressDisplay
from amc.utils.registry import current_folder_on_path

TRACING = "trace the network"
"""The title of a stage."""


def load_roles(config: DataConfig, seed: int, display: ProgressDisplay) -> DataRoles:
    """Loads the data; shows progress while images are decoded.

    Raises:
        DataError: If the data cannot be found, read or split.
    """
    with ExitStack() as shown:
        stage: Progress | None = None

        def advance(share: float, note: str = "", /) -> None:
            nonlocal stage
            if stage is None:  # only where something is decoded
                stage = shown.enter_context(display.stage("decoding images"))
            stage(share, note)

        return load_data(config, seed=seed, advance=advance)


def load_run(folder: Path, *, trust: bool) -> nn.Module:
    """Loads the network of a run's folder.

    Args:
        folder: The folder.
        trust: Whether `--trust` was given; then code that the folder names is also found in the current folder.

    Raises:
        AmcError: If it cannot be loaded.
    """
    with current_folder_on_path() if trust else nullcontext():
        return load(folder, trust=trust)


def check_network(config: RunConfig) -> None:
    """Rejects a network or a file of weights that does not exist, before the data is read; builds and reads neither.

    Raises:
        AmcError: If there is none.
    """
    if pruned_run(config.model) is not None:
        return
    find_factory(config.model)
    model_source(config, None)
    if config.weights:
        check_exists(Path(config.weights).expanduser())


def model_source(config: RunConfig, num_classes: int | None) -> ModelSource:
    """Describes how to build the dense network: with the data's number of classes, unless it is the user's own code.

    Raises:
        ConfigurationError: If `--classes` cannot be met.
    """
    if config.classes is not None:
        if config.classes < 1 or is_own_code(config.model):
            raise ConfigurationError(
                f"--classes must be at least 1, and is for named models, not {config.classes} for {config.model}; "
                "give your own code its number of classes itself"
            )
        num_classes = config.classes
    options = {} if is_own_code(config.model) or num_classes is None else {"num_classes": num_classes}
    return ModelSource("name", config.model, options)


def build_model(
    config: RunConfig, num_classes: int | None, shown: ProgressDisplay, *, trust: bool = False
) -> tuple[nn.Module, ModelSource]:
    """Builds the dense network and loads its weights, or loads the pruned network if the model is a run.

    Args:
        config: The configuration.
        num_classes: Classes of the data.
        shown: Says for how many classes the network is built, where `--classes` asks for them.
        trust: Whether code that a run's files name may be run.

    Raises:
        ModelError: If it cannot be built.
        CheckpointError: If the weights do not fit.
    """
    folder = pruned_run(config.model)
    if folder is not None:
        check_started_from(folder, config)
        network = load_run(folder, trust=trust)
        return network, ModelSource.of(network)
    source = model_source(config, num_classes)
    model = create_model(source.reference, seed=config.seed, **source.options)
    if config.classes is not None:
        shown.say(f"{config.model} is built for {config.classes} class{'es' if config.classes > 1 else ''} (--classes)")
    if config.weights:
        load_weights(model, Path(config.weights).expanduser(), replace_head=bool(config.train.head))
    return model, source


def with_published_weights(config: RunConfig, options: jsonargparse.Namespace) -> RunConfig:
    """Replaces `DEFAULT` by the file of the weights that the network's library publishes.

    Raises:
        AmcError: If there are none, or they are not here and cannot or may not be downloaded.
    """
    file, title = own_weights(config.model, download=options.download_weights)
    display(options).say(f"weights: {title}")
    return replace(config, weights=str(file))


def with_new_head(config: RunConfig, data: DataRoles, shown: ProgressDisplay, *, trained: bool = True) -> RunConfig:
    """Gives a network a new last layer, to be trained first, if its weights are for other classes.

    Args:
        config: The configuration.
        data: Its data.
        shown: Reports it in one line.
        trained: Whether the command trains the network; otherwise the new layer stays random.

    Returns:
        The configuration, with a training of the head where one is new.

    Raises:
        CheckpointError: If the weights differ in more than the last layer.
    """
    if not config.weights or config.train.head or config.classes is not None or is_own_code(config.model):
        return config
    source = model_source(config, data.num_classes)
    with QuickWeights():
        model = create_model(source.reference, **source.options)
    head = load_weights(model, Path(config.weights).expanduser(), replace_head=True)
    if not head:
        return config
    train = replace(config.train, head=tuple(head))
    found = f"the weights are for other classes than the data's {data.num_classes}: {', '.join(head)} is new"
    if not trained:
        shown.say(f"{found}, and is not trained here")
        return replace(config, train=train)
    epochs = with_epochs(train, data).epochs
    assert epochs is not None
    shown.say(
        f"{found}, trained alone for {counted(train.head_epochs, 'epoch')}, then all layers for "
        f"{counted(epochs, 'epoch')} (see --train.head_epochs, --train.epochs)"
    )
    return replace(config, train=train, train_first=True)


def check_images(model: nn.Module, data: DataRoles) -> None:
    """Runs a network on one image, to reject data of another shape before work starts.

    Raises:
        DataError: If the network cannot read it.
    """
    image = example_of(data, None)
    failure = failure_of(model, image)
    if failure is not None:
        raise DataError(
            f"the network must read images of the data, but fails on one of shape {tuple(image.shape[1:])}: {failure}; "
            "choose the data that it was trained on"
        ) from failure


def _check_default_data(config: RunConfig, model: nn.Module, data: DataRoles) -> None:
    """Points out that no data was named, if the network cannot read the default data.

    Raises:
        DataError: If it cannot.
    """
    image = example_of(data, None)
    if failure_of(model, image) is not None:
        raise DataError(
            f"{config.model} cannot read images of shape {tuple(image.shape[1:])}: no data is named, so that it is the "
            "digits; name yours with --data.name and --data.root"
        )


def open_task(
    config: RunConfig,
    data: DataRoles,
    shown: ProgressDisplay,
    *,
    budget: Budget | None = None,
    schedule: Chosen = "one_shot",
    trust: bool = False,
    processes: Processes = ONE,
) -> tuple[Task, ModelSource]:
    """Builds and traces the dense network of a configuration, and checks its options.

    Args:
        config: The configuration.
        data: Its data.
        shown: Shows the progress.
        budget: The budget; None for no bound.
        schedule: In which rounds networks are pruned and trained.
        trust: Whether code that the files of a run name may be run, if the model is a run.
        processes: The processes that share the trainings.

    Raises:
        AmcError: If an option, the network or its weights cannot be used.
    """
    model, source = build_model(config, data.num_classes, shown, trust=trust)
    if is_own_code(config.model) and not (config.trains_first or config.weights) and config.train != TrainConfig():
        shown.say(f"{config.model} is taken as trained: --train.* trains nothing unless with --train_first true")
    if not names_data(config):
        _check_default_data(config, model, data)
    latency = None
    if config.budget.profile:
        latency = LatencyTarget.read(Path(config.budget.profile).expanduser(), insist=config.budget.insist)
    with shown.stage(TRACING, 1) as advance:
        task = prepare(
            model,
            data,
            budget,
            pruning=config.pruning,
            finetune=config.finetune,
            train=config.train if config.trains_first else None,
            schedule=schedule,
            retrain=config.train,
            seed=config.seed,
            device=config.device,
            dtype=config.dtype,
            latency=latency,
            processes=processes,
        )
        advance(1.0)
    return task, source


def display(options: jsonargparse.Namespace) -> ProgressDisplay:
    """Returns the display that `--progress` asks for, on stderr; stdout is for results."""
    return ProgressDisplay(sys.stderr, shows=options.progress)


def names_data(config: RunConfig) -> bool:
    """Returns whether a configuration names its data, rather than using the default digits."""
    return config.data.root is not None or config.data.name != DataConfig().name


def example_for(config: RunConfig, shape: str | None) -> tuple[Tensor, int | None]:
    """Returns an example input `(1, C, H, W)`, and the number of classes if it comes from data.

    Args:
        config: Model and data; the data is read only if one is named, or the network's input is not known.
        shape: `"C,H,W"` as the user wrote it, or None.

    Raises:
        ConfigurationError: If the shape is malformed.
    """
    if shape is not None:
        sizes = [part.strip() for part in shape.split(",")]
        if len(sizes) != 3 or not all(part.isdigit() and int(part) > 0 for part in sizes):
            raise ConfigurationError(f"--shape must be three positive numbers such as 3,32,32, not {shape!r}")
        return torch.zeros(1, *(int(part) for part in sizes)), None
    folder = pruned_run(config.model)
    if folder is not None and (described := read_architecture(folder).get("input")) is not None:
        return random_input(described), None
    if not names_data(config) and not is_own_code(config.model):
        return torch.zeros(1, *example_input_shape(config.model)), None
    roles = load_data(config.data, seed=config.seed)
    return torch.zeros(1, *roles.input_shape), roles.num_classes
