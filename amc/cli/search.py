"""`amc search`: the policy alone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import jsonargparse

from amc.cli.cluster import add_cluster_options, cluster_of
from amc.cli.command import Command
from amc.cli.consent import WORDS, trusted
from amc.cli.options import add_output_options, add_run_options, run_config
from amc.cli.pruned_model import network_file, options_of_model, settle_model
from amc.cli.resume import output_of
from amc.errors import ConfigurationError
from amc.storage.names import POLICY, REPORT

_UNUSED = ("schedule", "compare", "finetune")

if TYPE_CHECKING:
    from pathlib import Path

    from agents import SearchResult
    from amc.pipeline.config import RunConfig
    from amc.pipeline.recorder import Recorder

_ENDS = "episodes in all"
"""The name under which the lengths of a search and of its extensions are recorded."""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options of a search, and where it is written."""
    add_run_options(parser, hide=_UNUSED)
    add_output_options(parser)
    add_cluster_options(parser, "the candidates that are played side by side")


def defaults(words: Sequence[str]) -> list[str]:
    """Takes the options of the run whose network is pruned further."""
    return options_of_model(words)


def run(options: jsonargparse.Namespace) -> None:
    """Searches, writes the policy, and prints it.

    Raises:
        AmcError: If an option, the data, the network or the folder cannot be used.
    """
    from amc.cli.setup import check_network, display, load_roles, open_task, with_new_head
    from amc.pipeline.compare import check_choices
    from amc.pipeline.config import budget_of
    from amc.pipeline.deliver import Workshop
    from amc.pipeline.prepare import check_trained, train_dense
    from amc.pipeline.search import check_search, search_policy
    from amc.pipeline.settling import settled
    from amc.pipeline.summary import policy_record
    from amc.report.run_recorder import RunRecorder
    from amc.report.search_page import page_of_search
    from amc.report.tables import allocation_table, render

    config = settle_model(run_config(options), options[WORDS])
    path = output_of(options, config, may_change=("episodes",))
    shown = display(options)
    opened = RunRecorder(
        path,
        config,
        shown,
        command="search",
        inputs=network_file(config),
        resumed=options.resumed,
        mix_scores=options.mix_scores,
    )
    with cluster_of(options, config, races=False) as open_executor, opened as recorder:
        check_network(config)
        check_choices(config.search)
        data = load_roles(config.data, config.seed, shown)
        config = with_new_head(config, data, shown)
        task, _ = open_task(config, data, shown, budget=budget_of(config), trust=trusted(options))
        begun, search = recorder.begun(config).episodes, config.search
        ends = _ends(recorder, begun, config.episodes)
        search = replace(search, episodes=begun)
        check_search(task.problem, search, task)
        for one, other in pairwise(ends):
            check_search(task.problem, replace(search, episodes=other - one))
        ends = [end + search.candidates - search.episodes for end in ends]
        with settled(recorder, task.model, task.example_input, config.device, deterministic=config.deterministic):
            if config.trains_first:
                train_dense(task, config.train, recorder)
            with recorder.stage("score the dense network", len(data.search), "images") as advance:
                dense = task.searched(task.model, advance)
            check_trained(task, dense, recorder, untrained=config.allows_untrained, images=len(data.search))
            if len(ends) > 1:
                recorder.remember(_ENDS, {"episodes": [end - search.candidates + search.episodes for end in ends]})
            workshop = Workshop(task, recorder, open_executor)
            outcome = search_policy(task.problem, workshop.evaluator, search, recorder, ends=ends, network=config.model)
            best = outcome.best.allocation
            recorder.on_policy(policy_record(task.problem, best))
            widths = {str(config.agent): task.problem.widths(best)}
            page = page_of_search(config.model, str(config.agent), task.problem, outcome.episodes, best)
            page.write(path / REPORT)
    _print(config, path, render(allocation_table(task.problem, widths)), outcome)


def _print(config: RunConfig, path: Path, table: str, outcome: SearchResult) -> None:
    """Prints the policy, and how to continue with it."""
    from amc.report.origin import trust_words

    print(table)
    print(f"reward {outcome.best.reward:.4f}, search accuracy {outcome.best.score.accuracy:.2f} percent")
    following = f"amc prune {shlex.quote(str(path))}{trust_words(config.model)}"
    print(f"The policy: {path / POLICY}  (continue with: {following})")


def _ends(recorder: Recorder, begun: int, wanted: int) -> list[int]:
    """Returns the total number of episodes after the search and after each extension, the present one included.

    Raises:
        ConfigurationError: If fewer are asked for than there are.
    """
    known = recorder.recall(_ENDS) or {"episodes": [begun]}
    ends: list[int] = list(known["episodes"])
    if wanted in (begun, ends[-1]):
        return ends
    if wanted < ends[-1]:
        raise ConfigurationError(f"--episodes must be more than the {ends[-1]} of the search so far, not {wanted}")
    return [*ends, wanted]


COMMAND = Command(
    add_arguments,
    run,
    defaults=defaults,
    resumes=True,
    description="Searches for layer-wise pruning ratios and writes them to policy.json; no network is delivered.",
    examples=(
        "  amc search --episodes 50\n"
        "  amc search --agent cem --budget.params 0.4 --out runs/cem\n"
        "  amc search --out runs/cem --resume\n"
        "  amc search --out runs/cem --resume --episodes 600"
    ),
)
