"""`amc train`: train one policy on several networks, budgets, rewards and seeds, for use on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from amc.cli.choices_help import offer, option_of
from amc.cli.command import Command
from amc.cli.options import add_run_options, run_config
from amc.cli.spelling import listed
from amc.costs.metrics import METRICS
from amc.errors import ConfigurationError, UnknownNameError
from amc.storage.names import CONFIG, TENSORBOARD
from amc.utils.conversion import check_seed

if TYPE_CHECKING:
    from amc.pipeline.config import RunConfig
    from amc.pipeline.task import Task
    from amc.policies import PlannedTask, TrainingRules
    from amc.utils.progress_display import ProgressDisplay

_UNUSED = ("model", "weights", "reward", "seed", "schedule", "compare", "finetune", "budget", "policy", "untrained")
_AGENTS = ("ddpg",)
"""The agents whose policies serve several tasks."""
_EPISODES, _BUDGETS, _FEATURES = 900, [0.7, 0.5, 0.3], ("budget", "depth", "sensitivity", "dp")


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options that all tasks share, and those that define the tasks."""
    add_run_options(parser, hide=_UNUSED)
    offer(parser, "agent", _AGENTS)
    parser.set_defaults(episodes=_EPISODES, features=list(_FEATURES))
    option_of(parser, "episodes").help = "Episodes in all, over all tasks."
    add = parser.add_argument
    add("--out", metavar="DIR", type=str, required=True, help="Folder of the training; what is there is continued.")
    networks = "NAME[=WEIGHTS],..."
    add(
        "--models",
        metavar=networks,
        type=str,
        default="digits_resnet",
        help="Networks with their weights; without WEIGHTS they are trained first.",
    )
    add("--budgets", metavar="SHARE", nargs="+", type=float, default=_BUDGETS, help="Shares kept of the dense cost.")
    bounds = f"What --budgets bound: {' or '.join(METRICS.names())}."
    add("--metric", metavar="NAME", type=str, default="flops", help=bounds)
    add("--reward_names", metavar="NAME", nargs="+", type=str, default=["accuracy"], help="What the agent maximises.")
    add("--seeds", metavar="N", nargs="+", type=int, default=[0], help="Splits of the data; the first is the agent's.")
    add("--held_out_models", metavar=networks, type=str, default="", help="Networks used only to evaluate the policy.")
    shares = "Shares used only to evaluate the policy, on all networks."
    add("--held_out_budgets", metavar="SHARE", nargs="*", type=float, default=[], help=shares)
    every = "Episodes between evaluations without noise."
    add("--evaluate_every", metavar="N", type=int, default=50, help=every)
    add("--checkpoint_every", metavar="N", type=int, default=25, help="Episodes between checkpoints.")
    patience = "Evaluations without gain after which the training stops; 0: never."
    add("--patience", metavar="N", type=int, default=0, help=patience)


def run(options: jsonargparse.Namespace) -> None:
    """Trains or continues, and prints the card.

    Raises:
        AmcError: If an option, the data, a network or the folder cannot be used.
    """
    from amc.cli.setup import display
    from amc.policies import TrainingRules
    from amc.report.origin import RunInterrupted
    from amc.storage.folder_kinds import A_TRAINING
    from amc.study.study_folder import working_in

    if options.metric not in METRICS:
        raise UnknownNameError("metric", options.metric, METRICS.names())
    if not options.budgets or not options.reward_names or not options.seeds:
        raise ConfigurationError("--budgets, --reward_names and --seeds must each name something")
    config, folder = replace(run_config(options), policy=None), Path(options.out)
    shared = ("agent", "episodes", "features", "first_images", "allocation_mode")
    own = ("evaluate_every", "checkpoint_every", "patience")
    rules = TrainingRules(
        seed=options.seeds[0],
        **{name: getattr(config, name) for name in shared},
        **{name: options[name] for name in own},
    )
    _check_tasks(config, options)
    try:
        with working_in(folder, A_TRAINING) as lock:
            shown = display(options)
            shown.tell(lock.tell)
            _train(config, rules, folder, options, shown)
    except KeyboardInterrupt as stop:
        if not (folder / CONFIG).is_file():
            raise
        raise RunInterrupted(f"the same command continues {folder}") from stop


def _train(
    config: RunConfig, rules: TrainingRules, folder: Path, options: jsonargparse.Namespace, shown: ProgressDisplay
) -> None:
    """Sets up the tasks, and trains on them."""
    from amc.pipeline.settling import fast_threads
    from amc.policies import PolicyTraining
    from amc.policies.curves import curves_in
    from amc.policies.folder import dense_file, open_training
    from amc.study.study_folder import ensure_trained
    from amc.utils.digests import digest_of

    networks, held = _networks(options.models), _networks(options.held_out_models)
    configs: dict[str, tuple[RunConfig, Task]] = {}
    for seed in options.seeds:
        suffix = f" seed {seed}" if len(options.seeds) > 1 else ""
        opened = _opened(replace(config, seed=seed), shown, networks | held)
        configs |= {f"{name}{suffix}": pair for name, pair in opened.items()}
    trained = [name for name, (network, _) in configs.items() if network.model in networks]
    tasks, held_out = _planned(configs, trained, options, rules)
    digests = {name: digest_of(Path(file).expanduser()) if file else None for name, file in (networks | held).items()}
    every: dict[str, Any] = {"networks": digests, "held_out": list(held)}
    of_tasks = ("budgets", "held_out_budgets", "metric", "reward_names", "seeds")
    open_training(folder, config, {**asdict(rules), **every, **{name: options[name] for name in of_tasks}})
    example = next(iter(configs.values()))[1]
    with fast_threads(example.model, example.example_input, config.device, deterministic=config.deterministic):
        for name, (network, task) in configs.items():
            ensure_trained(task, network, folder, shown, dense_file(name))
        training = PolicyTraining(folder, tasks, held_out, rules)
        with curves_in(folder / TENSORBOARD) as on_figures, shown.stage("train", rules.episodes, "episodes") as advance:
            training.run(advance, on_figures)
    _show(folder)


def _check_tasks(config: RunConfig, options: jsonargparse.Namespace) -> None:
    """Rejects tasks that cannot be, before the data is read.

    Raises:
        AmcError: If a network, a file of weights, a budget, a reward or a seed cannot be used.
    """
    from amc.cli.setup import check_network
    from amc.costs import Budget
    from envs.rewards import as_reward

    networks = _networks(options.models)
    if not networks:
        raise ConfigurationError("--models must name at least one network, such as resnet20=FILE")
    for name, file in (networks | _networks(options.held_out_models)).items():
        check_network(replace(config, model=name, weights=file))
    for budget in (*options.budgets, *options.held_out_budgets):
        Budget(**{options.metric: budget})
    for reward in options.reward_names:
        as_reward(reward)
    for seed in options.seeds:
        check_seed(seed)


def _networks(text: str) -> dict[str, str | None]:
    """Reads networks with their weights: `NAME=WEIGHTS` or `NAME`, separated by commas."""
    pairs = (part.partition("=") for part in listed(text))
    return {name: file or None for name, _, file in pairs}


def _opened(
    config: RunConfig, shown: ProgressDisplay, networks: dict[str, str | None]
) -> dict[str, tuple[RunConfig, Task]]:
    """Builds and traces every network on one split of the data."""
    from amc.cli.setup import load_roles, open_task, with_new_head

    data, found = load_roles(config.data, config.seed, shown), {}
    for name, file in networks.items():
        network = with_new_head(replace(config, model=name, weights=file), data, shown)
        found[name] = network, open_task(network, data, shown)[0]
    return found


def _planned(
    configs: dict[str, tuple[RunConfig, Task]],
    trained: Sequence[str],
    options: jsonargparse.Namespace,
    rules: TrainingRules,
) -> tuple[list[PlannedTask], list[PlannedTask]]:
    """Returns the tasks to train on, and those held out: other networks, and other budgets for all."""
    from amc.policies import planned_tasks

    own = {name: task for name, (_, task) in configs.items() if name in trained}
    others = {name: task for name, (_, task) in configs.items() if name not in trained}
    common = (options.reward_names, rules)
    tasks = planned_tasks(own, options.metric, options.budgets, *common)
    further = [budget for budget in options.held_out_budgets if budget not in options.budgets]
    held_out = planned_tasks(own, options.metric, further, *common)
    return tasks, held_out + planned_tasks(others, options.metric, [*options.budgets, *further], *common)


def _show(folder: Path) -> None:
    from amc.report.policy_tables import card_table
    from amc.report.tables import render
    from amc.storage.agent_card import read_card
    from amc.storage.names import AGENT, AGENT_CARD

    card = read_card(folder / AGENT_CARD)
    if card is not None:
        print(render(card_table(card)))
    print(f"The policy: {folder / AGENT}  (use it with: amc compress --policy {folder / AGENT} --episodes 0 ...)")


COMMAND = Command(
    add_arguments,
    run,
    usage="--out DIR [options]",
    description=(
        "Trains one policy over several networks, budgets, rewards and splits of the data, and evaluates it without\n"
        "noise on others. A training that was killed continues with the same command, to the same bits."
    ),
    examples=(
        "  amc train --out policies/digits --episodes 60\n"
        "  amc train --out policies/cifar --config configs/cifar10_resnet20.yaml --data.root DIR \\\n"
        "      --models resnet20=FILE --budgets 0.7 0.5 0.3 --held_out_models resnet56=FILE --episodes 900\n"
        "  amc train --out policies/ablation --features budget,depth --episodes 900 ..."
    ),
)
