"""`amc inspect`: what of a network can be pruned."""

from __future__ import annotations

import jsonargparse

from amc.cli.command import Command
from amc.cli.options import add_run_options, run_config
from amc.errors import AmcError

_UNUSED = (
    "agent",
    "agent_options",
    "episodes",
    "reward",
    "first_images",
    "allocation_mode",
    "compare",
    "train",
    "train_first",
    "finetune",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options that say which network, under which rules."""
    add_run_options(parser, hide=_UNUSED)
    parser.add_argument(
        "--shape",
        type=str | None,
        default=None,
        metavar="C,H,W",
        help="Shape of one input image, such as 3,32,32; unset: what the model is made for, or the data's.",
    )
    parser.add_argument("--list", action="store_true", help="Print the names that --model knows, and exit.")


def run(options: jsonargparse.Namespace) -> None:
    """Prints the table of channel groups.

    Raises:
        AmcError: If the network cannot be built or traced.
    """
    from rich.console import Console

    from amc.models import model_names

    if options.list:
        print("\n".join(model_names()))
        return
    from amc.cli.setup import build_model, example_for
    from amc.config import budget_of
    from amc.models.quick_weights import QuickWeights
    from amc.report.tables import obstacles, structure_table
    from amc.structure.trace import trace_structure
    from amc.task import build_problem

    config = run_config(options)
    example, classes = example_for(config, options.shape)
    with QuickWeights():
        model, _ = build_model(config, classes)
    structure = trace_structure(model, example)
    try:
        problem, obstacle = build_problem(structure, None, config.pruning), None
    except AmcError as error:
        problem, obstacle = None, error
    Console().print(structure_table(structure, problem))
    for letter, reason in obstacles(structure, problem).items():
        print(f"({letter}) {reason}")
    if problem is None:
        print(f"nothing to prune: {obstacle}")
        return
    smallest = problem.cost(problem.min_widths, "flops")
    print(f"smallest reachable: {smallest:,} FLOPs ({smallest / structure.dense_flops:.1%} of the dense network)")
    bounded = build_problem(structure, budget_of(config), config.pruning)
    print(f"budget: {bounded.metric} of at most {bounded.limit:,} of {bounded.cost_model.dense:,}")


COMMAND = Command(
    add_arguments,
    run,
    description="Prints the channel groups of a network: layers, widths, FLOPs, parameters, and what can be pruned.",
    examples=(
        "  amc inspect --model resnet56\n"
        "  amc inspect --model mobilenet_v2 --pruning.residual true\n"
        "  amc inspect --model mypackage.models:build --shape 3,64,64\n"
        "  amc inspect --list"
    ),
)
