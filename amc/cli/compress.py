"""`amc compress`: the whole job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jsonargparse

from amc.cli.cluster import add_cluster_options, cluster_of
from amc.cli.command import Command
from amc.cli.consent import WORDS, trusted
from amc.cli.options import add_output_options, add_run_options, run_config
from amc.cli.pruned_model import network_file, options_of_model, settle_model
from amc.cli.resume import output_of

if TYPE_CHECKING:
    from amc.pipeline.result import CompressionResult


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options of a run, and where it is written."""
    add_run_options(parser, shares_trainings=True)
    add_output_options(parser)
    add_cluster_options(parser, "the candidates that are played side by side")


def defaults(words: Sequence[str]) -> list[str]:
    """Takes the options of the run whose network is pruned further."""
    return options_of_model(words)


def run(options: jsonargparse.Namespace) -> None:
    """Runs or resumes the job, and prints the summary table.

    Raises:
        AmcError: If an option, the data, the network or the folder cannot be used.
    """
    # Here, so that --help does not wait for them.
    from amc.cli.setup import check_network, display, load_roles, open_task, with_new_head
    from amc.pipeline.compare import check_choices
    from amc.pipeline.config import budget_of
    from amc.pipeline.job import Job
    from amc.report.files import write_report
    from amc.report.run_recorder import RunRecorder
    from amc.training.distributed.processes import processes_for

    config = settle_model(run_config(options), options[WORDS])
    path = output_of(options, config)
    shown = display(options)
    opened = RunRecorder(
        path,
        config,
        shown,
        command="compress",
        inputs=network_file(config),
        resumed=options.resumed,
        mix_scores=options.mix_scores,
    )
    with (
        cluster_of(options, config, races=False) as open_executor,
        opened as recorder,
        processes_for(config.devices, config.device) as processes,
    ):
        check_network(config)
        check_choices(config.search, config.compare)
        data = load_roles(config.data, config.seed, shown)
        config = with_new_head(config, data, shown)
        task, source = open_task(
            config,
            data,
            shown,
            budget=budget_of(config),
            schedule=config.schedule,
            trust=trusted(options),
            processes=processes,
        )
        train = config.train if config.trains_first else None
        job = Job(task, config.search, source, train, config.compare)
        result = job.carry_out(recorder, open_executor)
        table = write_report(path, result)
    words = ", trust=True" if source.needs_trust else ""
    print(table)
    print(f"{_named(result)}: {path}  (load it with amc.load({str(path)!r}{words}))")


def _named(result: CompressionResult) -> str:
    """Says what the network is: a criterion that decides by itself may remove nothing."""
    costs = result.summary["costs"].values()
    if any(cost["pruned"] < cost["dense"] for cost in costs):
        return "The smaller network"
    return "Nothing was removed; the network"


COMMAND = Command(
    add_arguments,
    run,
    defaults=defaults,
    resumes=True,
    shares_trainings=True,
    description=(
        "Fits a network into a budget: an agent looks for the layer-wise pruning ratios, the network is pruned and\n"
        "fine-tuned, and compared with what simple rules reach under the same budget.\n"
        "Without options: a small network on handwritten digits, half the FLOPs, no download."
    ),
    examples=(
        "  amc compress\n"
        "  amc compress --budget.params 0.3 --episodes 300\n"
        "  amc compress --config configs/cifar10_resnet56.yaml --data.root DIR --weights FILE\n"
        "  amc compress --config configs/cifar10_resnet56.yaml --data.root DIR --weights FILE --devices 2\n"
        "  amc compress --out runs/mine --resume"
    ),
)
