"""`amc evaluate`: a network's accuracy and cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jsonargparse

from amc.cli.command import Command
from amc.cli.consent import trusted
from amc.cli.options import WITHOUT_SEARCH, add_run_options, options_of_run, run_config
from amc.cli.resume import check_started_from
from amc.cli.words import find_run, option_value
from amc.errors import ConfigurationError

_UNUSED = (*WITHOUT_SEARCH, "budget", "pruning", "deterministic", "finetune")


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options that say which network and which data."""
    parser.add_argument("run", nargs="?", type=str | None, metavar="RUN", help="Folder of a run, or saved by Python.")
    add_run_options(parser, hide=_UNUSED)


def defaults(words: Sequence[str]) -> list[str]:
    """Takes the options of the run that the words name.

    Raises:
        ConfigurationError: If a network is named as well.
    """
    folder = find_run(words)
    if folder is None:
        return []
    for name in ("--model", "--weights"):
        if option_value(words, name) is not None:
            raise ConfigurationError(f"amc evaluate measures the network in {folder} or that of {name}; leave one out")
    if option_value(words, "--classes") is not None:
        raise ConfigurationError(f"the network in {folder} has its number of classes; leave --classes out")
    return options_of_run(folder)


def run(options: jsonargparse.Namespace) -> None:
    """Measures the network on the test images and prints its figures.

    Raises:
        AmcError: If the folder, an option, the data or the network cannot be used.
    """
    from amc.cli.setup import build_model, check_images, check_network, display, load_roles, load_run
    from amc.cli.sparsity import costs_of, is_sparse
    from amc.costs.counting import operators_by_own_rule, uncounted_operators
    from amc.pipeline.task import example_of
    from amc.report.tables import networks_table, render
    from amc.runtime import resolve_device
    from amc.training import evaluate, is_chance

    config, shown = run_config(options), display(options)
    if options.run is not None:
        check_started_from(Path(options.run))
        model, name = load_run(Path(options.run), trust=trusted(options)), options.run
    else:
        check_network(config)
    data = load_roles(config.data, config.seed, shown)
    if options.run is None:
        (model, _), name = build_model(config, data.num_classes, shown), config.model
    check_images(model, data)
    with shown.stage("test the network", len(data.test), "images") as advance:
        accuracy = evaluate(model, data.test, device=resolve_device(config.device), advance=advance).accuracy
    if is_chance(accuracy, data):
        remedy = (
            "give trained weights with --weights" if options.run is None else f"train it on with amc finetune {name}"
        )
        shown.say(f"the accuracy is no better than chance: {remedy}")
    sparse = options.run is not None and is_sparse(Path(options.run), config)
    example = example_of(data, None)
    costs = costs_of(model.cpu(), example, sparse=sparse)
    operators = uncounted_operators(model, example), operators_by_own_rule(model, example)
    print(render(networks_table({name: (costs, accuracy)}, *operators)))


COMMAND = Command(
    add_arguments,
    run,
    defaults=defaults,
    usage="[RUN] [options]",
    description="Measures the network of a run, or any network, on the test images.",
    examples=(
        "  amc evaluate runs/mine\n"
        "  amc evaluate --model resnet56 --weights FILE --data.name imagefolder --data.root DIR"
    ),
)
