"""`amc policy`: what a trained agent has learnt, and what it does to a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jsonargparse

from amc.cli.command import Command
from amc.cli.consent import WORDS
from amc.cli.options import add_run_options, run_config
from amc.cli.words import option_value
from amc.costs.metrics import METRICS
from amc.errors import ConfigurationError, UnknownNameError
from amc.utils.counted import counted
from amc.utils.printable import printable

_UNUSED = (
    "agent", "episodes", "schedule", "compare", "finetune", "first_images", "features", "policy", "budget", "untrained",
)  # fmt: skip
_ACTIONS = ("show",)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the action, the agent, and the options of the network to try it on."""
    parser.add_argument("action", type=str, metavar="ACTION", help=f"What to do: {', '.join(_ACTIONS)}.")
    parser.add_argument("file", type=str, metavar="FILE", help="A trained agent: agent.safetensors.")
    add_run_options(parser, hide=_UNUSED)
    budgets = [0.7, 0.5, 0.3]
    add = parser.add_argument
    add("--budgets", metavar="SHARE", nargs="+", type=float, default=budgets, help="Shares kept of the dense cost.")
    bounds = f"What --budgets bound: {' or '.join(METRICS.names())}."
    add("--metric", metavar="NAME", type=str, default="flops", help=bounds)

    picture = "PNG file: ratio against layer at each of the budgets, and what one feature changes; scores nothing."
    add("--picture", metavar="FILE", type=str | None, default=None, help=picture)


def run(options: jsonargparse.Namespace) -> None:
    """Prints the card, the curve, and what the agent keeps of a network if one is named.

    Raises:
        AmcError: If the agent, an option, the data or the network cannot be used.
    """
    from agents.loading import load_agent
    from amc.pipeline.agent_card import card_beside
    from amc.report.policy_tables import card_table, curve_table
    from amc.report.tables import render

    if options.action not in _ACTIONS:
        raise UnknownNameError("action", options.action, _ACTIONS)
    agent = load_agent(options.file)
    card = card_beside(Path(options.file), agent)
    if card is None:
        task = agent.tasks[0]
        features = printable(", ".join(task.features))
        count = counted(len(task.features), "feature")
        print(f"{agent.name}, {printable(task.kind)} pruning, {count}: {features}; no card")
    else:
        print(render(card_table(card)))
        print(f"features: {printable(', '.join(card.features))}")
        if card.curve:
            print(render(curve_table(card.curve)))
    if any(option_value(options[WORDS], name) is not None for name in ("--model", "--config")):
        _try(options)


def _try(options: jsonargparse.Namespace) -> None:
    """Lets the agent play the network that the options name."""
    from amc.cli.setup import check_network, display, load_roles, open_task, with_new_head
    from amc.costs import Budget
    from amc.pipeline.deliver import Workshop
    from amc.pipeline.policies import check_policy, curves_of, play_policy, problems_at
    from amc.pipeline.prepare import train_dense
    from amc.pipeline.recorder import ShowingRecorder
    from amc.pipeline.settling import fast_threads
    from amc.report.policy_plots import plot_policy
    from amc.report.policy_tables import actions_table
    from amc.report.tables import render

    if options.metric not in METRICS:
        raise UnknownNameError("metric", options.metric, METRICS.names())
    config = replace(run_config(options), agent="ddpg", features=(), first_images=None)
    if not options.budgets:
        raise ConfigurationError("--budgets must name at least one share, such as 0.5")
    search = replace(replace(config, policy=options.file).search, episodes=0)
    for budget in options.budgets:
        Budget(**{options.metric: budget})
    check_network(config)
    shown = display(options)
    data = load_roles(config.data, config.seed, shown)
    config = with_new_head(config, data, shown)
    task, _ = open_task(config, data, shown)
    check_policy(problems_at(task, options.metric, [1.0]), search)  # of another kind, it could not meet the budgets
    problems = problems_at(task, options.metric, options.budgets)
    with fast_threads(task.model, task.example_input, config.device, deterministic=config.deterministic):
        if config.trains_first:
            train_dense(task, config.train, ShowingRecorder(shown))
        workshop = Workshop(task, ShowingRecorder(shown))
        if options.picture is not None:
            curves = curves_of(workshop, options.budgets, options.metric, search)
            plot_policy(Path(options.picture), config.model, curves)
            print(f"The picture: {options.picture}")
            return
        played = play_policy(workshop, problems, search)
    print(render(actions_table(config.model, problems, played)))


COMMAND = Command(
    add_arguments,
    run,
    usage="show FILE [options]",
    description=(
        "Shows a trained agent: what it was trained on, how far it got, and, if a network is named, what it keeps\n"
        "of each layer at several budgets, in one episode without noise each."
    ),
    examples=(
        "  amc policy show runs/mine/agent.safetensors\n"
        "  amc policy show policies/cifar/agent.safetensors --config configs/cifar10_resnet56.yaml --data.root DIR \\\n"
        "      --weights FILE --budgets 0.6 0.4 0.2\n"
        "  amc policy show runs/mine/agent.safetensors --model digits_resnet --budgets 0.9 0.5 0.1 --picture policy.png"
    ),
)
