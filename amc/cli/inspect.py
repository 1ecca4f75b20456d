"""`amc inspect`: what of a network can be pruned."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import jsonargparse

from amc.cli.command import Command
from amc.cli.consent import WORDS, trusted
from amc.cli.options import WITHOUT_SEARCH, add_run_options, run_config
from amc.cli.pruned_model import settle_model
from amc.errors import ConfigurationError, ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from amc.costs import Budget
    from amc.problem import PruningProblem
    from amc.structure import ModelStructure

_UNUSED = (*WITHOUT_SEARCH, "finetune", "device")

_LEFT_OUT = (
    "In so large a network two things were not checked, as they take many forward passes: whether it\n"
    "computes the same when it is cut (a run compares that), and whether its FLOPs leave out operators (a run's\n"
    "figures tell)."
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options for the network and the rules."""
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
        AmcError: If the network cannot be built or traced, or the budget or a rule makes no sense. It is printed, not
            raised, if there is nothing to prune or the budget cannot be reached.
    """
    from rich.console import Console

    from amc.models import is_own_code, model_names

    if options.list:
        print("\n".join(model_names()))
        return
    from amc.cli.setup import TRACING, build_model, display, example_for, names_data
    from amc.models.quick_weights import QuickWeights
    from amc.pipeline.config import budget_of
    from amc.pipeline.task import build_problem
    from amc.pruning.neuron_sparsity import neuron_sparsity
    from amc.report.tables import not_run_note, obstacles, sparsity_table, structure_table
    from amc.tracing.skipping import worthwhile
    from amc.tracing.trace import trace_structure

    config = settle_model(run_config(options), options[WORDS])
    budget = budget_of(config)
    example, classes = example_for(config, options.shape)
    with QuickWeights():
        model, _ = build_model(config, classes, display(options), trust=trusted(options))
    if options.shape is None and is_own_code(config.model) and not names_data(config):
        _check_guess(model, example)
    large = worthwhile(model)
    with display(options).stage(TRACING, 1) as advance:
        verify: Literal["shapes", "values"] = "shapes" if large else "values"
        structure = trace_structure(model, example, verify=verify, blocks=config.pruning.blocks)
        advance(1.0)
    try:
        problem, obstacle = build_problem(structure, None, config.pruning), None
    except ModelError as error:
        problem, obstacle = None, error
    Console().print(structure_table(structure, problem))
    for letter, reason in obstacles(structure, problem).items():
        print(f"({letter}) {reason}")
    if structure.not_run:
        print(not_run_note(structure.not_run))
    if large:
        print(_LEFT_OUT)
    else:
        _print_notes_on_counts(model, structure, example)
    if config.weights and (sparse := neuron_sparsity(model)):
        Console().print(sparsity_table([asdict(layer) for layer in sparse]))
    if problem is None:
        print(f"nothing to prune: {obstacle}")
        return
    smallest = problem.cost(problem.min_widths, "flops")
    print(f"smallest reachable: {smallest:,} FLOPs ({smallest / structure.dense_flops:.1%} of the dense network)")
    print(f"budget: {_budget_line(problem, budget)}")


def _print_notes_on_counts(model: nn.Module, structure: ModelStructure, example: Tensor) -> None:
    """Compares the FLOPs of the dense network with fvcore's count, and prints what is counted in another way.

    Raises:
        AmcError: If the two differ.
    """
    from amc.costs.agreement import check_dense_flops
    from amc.costs.counting import operators_by_own_rule, uncounted_operators
    from amc.report.tables import own_rule_note, uncounted_note

    check_dense_flops(model, structure, example)
    notes = (own_rule_note(operators_by_own_rule(model, example)), uncounted_note(uncounted_operators(model, example)))
    print("".join(f"{note}\n" for note in notes if note), end="")


def _check_guess(model: nn.Module, example: Tensor) -> None:
    """Asks for the shape of an image if the assumed one does not fit.

    Raises:
        ConfigurationError: If the network fails on it.
    """
    from amc.runtime.call import failure_of, first_line

    failure = failure_of(model, example)
    if failure is not None:
        raise ConfigurationError(
            f"the shape of an image is not known, and the network fails on {tuple(example.shape[1:])}, that of the "
            f"default data: {first_line(failure)}; give --shape C,H,W, or the data with --data.name and --data.root"
        )


def _budget_line(problem: PruningProblem, budget: Budget | None) -> str:
    """Describes the budget, and whether it can be reached.

    Raises:
        BudgetError: If the budget is above the dense cost.
    """
    if budget is None:
        return "none"
    from amc.costs.budget import Budget, feasible_share

    counted = {name: bound for name, bound in budget.bounds.items() if name in problem.costs}
    lines = [f"{name} is bounded once the network is compressed" for name in budget.bounds if name not in counted]
    limits = Budget.of(counted).limits(problem.dense_costs) if counted else {}
    for metric, limit in limits.items():
        dense, smallest = problem.dense_costs[metric], problem.cost(problem.min_widths, metric)
        lines.append(f"{metric} of at most {limit:,} of {dense:,}")
        if limit < smallest:
            share = feasible_share(smallest, dense)
            lines[-1] += f" cannot be reached: the smallest reachable is {smallest:,} ({metric}={share:.4f})"
    return "; ".join(lines)


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
