"""`amc finetune`: train a pruned network further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse
import msgspec

from amc.cli.command import Command
from amc.cli.consent import trusted
from amc.cli.options import WITHOUT_SEARCH, add_output_options, add_run_options, options_of_run, run_config
from amc.cli.pruned_model import pruned_run
from amc.cli.resume import check_started_from, input_of, output_of
from amc.cli.words import find_run
from amc.errors import ConfigurationError
from amc.pipeline.config import RunConfig
from amc.storage.names import PREPROCESSING, SUMMARY, WEIGHTS
from amc.storage.summary import Epoch, Summary, accuracies, costs_by_metric, read_summary
from amc.utils.plain_json import as_type

if TYPE_CHECKING:
    from torch import nn

    from amc.data import DataRoles
    from amc.pipeline.recorder import Recorder
    from amc.training.records import TrainingResult
    from amc.training.work import Processes
    from amc.utils.progress_display import ProgressDisplay

_UNUSED = (*WITHOUT_SEARCH, "budget", "pruning")


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options that say which network and how it is trained."""
    parser.add_argument("run", nargs="?", type=str | None, metavar="RUN", help="Folder with the pruned network.")
    add_run_options(parser, hide=_UNUSED, shares_trainings=True)
    add_output_options(parser, "Folder for the result; unset: a new one called RUN-finetuned.")


def defaults(words: Sequence[str]) -> list[str]:
    """Takes the options of the run that the words name."""
    folder = find_run(words)
    return [] if folder is None else options_of_run(folder)


def run(options: jsonargparse.Namespace) -> None:
    """Fine-tunes, measures and saves.

    Raises:
        AmcError: If the folder, an option, the data or the network cannot be used.
    """
    from amc.cli.setup import check_images, display, load_roles, load_run
    from amc.cli.sparsity import costs_of, is_sparse
    from amc.data.preprocessing import preprocessing_record
    from amc.pipeline.settling import settled
    from amc.pipeline.task import example_of
    from amc.report.files import write_pages
    from amc.report.run_recorder import RunRecorder
    from amc.report.tables import networks_table, render
    from amc.runtime.call import move
    from amc.storage.load import read_architecture
    from amc.storage.save import save_network
    from amc.training.defaults import fitted
    from amc.training.distributed.processes import processes_for
    from amc.training.work import Work
    from amc.utils.json_files import write_json

    file, config, shown = _network_file(options), run_config(options), display(options)
    folder = file.parent
    check_started_from(folder, config)
    if config.finetune.epochs == 0:
        raise ConfigurationError("amc finetune trains for at least one epoch; give --finetune.epochs")
    named = folder if folder.name.strip(".") else folder.resolve()  # "." and ".." have no name of their own
    path = output_of(options, config, named.with_name(f"{named.name}-finetuned"))
    inputs = {"network": file}
    opened = RunRecorder(
        path, config, shown, command="finetune", inputs=inputs, resumed=options.resumed, mix_scores=options.mix_scores
    )
    model, architecture = load_run(folder, trust=trusted(options)), read_architecture(folder)
    with opened as recorder, processes_for(config.devices, config.device) as processes:
        data = load_roles(config.data, config.seed, shown)
        check_images(model, data)
        teacher = _teacher(config, data, shown, trust=trusted(options))
        processes.check(Work(model, data, fitted(config.finetune, model, data), teacher))
        before = _tested(model, data, config, recorder, "before")
        with settled(recorder, model, example_of(data, None), config.device, deterministic=config.deterministic):
            sparse = is_sparse(folder, config)
            trained = _train(model, teacher, data, config, recorder, processes, sparse=sparse)
            after = _tested(model, data, config, recorder, "after")
            move(model, device="cpu")
            save_network(path, model, architecture)
        if (record := preprocessing_record(data.test)) is not None:
            write_json(path / PREPROCESSING, record)
        costs = costs_of(model, example_of(data, None), sparse=sparse)
        figures = {"pruned": before, "finetuned": after}
        write_json(path / SUMMARY, _summary(config, folder, costs, figures, trained))
        table = networks_table({name: (costs, accuracy) for name, accuracy in figures.items()})
        write_pages(path, table, trained.note)
    print(render(table))
    if trained.note:
        print(trained.note)
    print(f"The fine-tuned network: {path}")


def _network_file(options: jsonargparse.Namespace) -> Path:
    """Returns the weights to train further: those of RUN, or of the run that is resumed."""
    given = None if options.run is None else str(Path(options.run) / WEIGHTS)
    file = input_of(options, "network", given)
    if file is None:
        raise ConfigurationError("amc finetune needs the folder of a pruned network: amc finetune RUN")
    return file


def _teacher(config: RunConfig, data: DataRoles, shown: ProgressDisplay, *, trust: bool) -> nn.Module | None:
    """Returns the network that was pruned, to teach; None where the configuration does not lead to its weights."""
    from amc.cli.setup import build_model
    from amc.models import is_own_code

    is_trained = bool(config.weights) or pruned_run(config.model) is not None
    if is_trained or (is_own_code(config.model) and not config.trains_first):
        return build_model(config, data.num_classes, shown, trust=trust)[0]
    if config.finetune.distillation or config.finetune.feature_distillation:
        shown.say("without the trained dense network (--weights FILE) there is no distillation")
    return None


def _train(
    model: nn.Module,
    teacher: nn.Module | None,
    data: DataRoles,
    config: RunConfig,
    recorder: Recorder,
    processes: Processes,
    *,
    sparse: bool,
) -> TrainingResult:
    """Fine-tunes a network in place, or continues to."""
    from amc.cli.sparsity import zeros_kept
    from amc.pipeline.recorder import training_hooks
    from amc.training import fine_tune
    from amc.training.defaults import fitted
    from amc.training.objective import AfterStep

    terms = [AfterStep(zeros_kept(model))] if sparse else []
    settings = fitted(config.finetune, model, data)
    with training_hooks(recorder, "network", len(data.train), settings) as hooks:
        return fine_tune(
            model,
            data,
            settings,
            teacher=teacher,
            seed=config.seed,
            device=config.device,
            hooks=hooks,
            terms=terms,
            checkpoint=recorder.checkpoint("network"),
            processes=processes,
        )


def _tested(model: nn.Module, data: DataRoles, config: RunConfig, recorder: Recorder, when: str) -> float:
    """Returns the test accuracy of a network before or after its training, in percent."""
    from amc.training import evaluate

    with recorder.stage(f"test the network {when} fine-tuning", len(data.test), "images") as advance:
        return evaluate(model, data.test, device=config.device, advance=advance).accuracy


def _summary(
    config: RunConfig, folder: Path, costs: Mapping[str, int], accuracy: Mapping[str, float], trained: TrainingResult
) -> dict[str, Any]:
    """Returns the figures of a network that was trained further, with its history from the run's folder."""
    earlier = read_summary(folder)
    dense = {} if earlier is None else {metric: cost.dense for metric, cost in earlier.costs.items()}
    known = None if earlier is None else earlier.accuracy.get("dense")
    summary = Summary(
        command="finetune",
        model=config.model,
        seed=config.seed,
        costs=costs_by_metric(costs, dense),
        accuracy=accuracies(known, **accuracy),
        notes=[trained.note] if trained.note else [],
        curve=as_type(trained.curve, list[Epoch]),
    )
    if earlier is not None:
        summary = msgspec.structs.replace(
            summary,
            not_counted=earlier.not_counted or {},
            counted_by_own_rule=earlier.counted_by_own_rule or {},
            budget=earlier.budget or {},
            pruning=earlier.pruning,
            agent=earlier.agent,
        )
    return summary.as_dict()


COMMAND = Command(
    add_arguments,
    run,
    defaults=defaults,
    resumes=True,
    shares_trainings=True,
    usage="[RUN] [options]",
    description="Fine-tunes the pruned network of a run further, with the options of that run unless others are given.",
    examples=(
        "  amc finetune runs/mine-pruned --finetune.epochs 20\n"
        "  amc finetune runs/mine-pruned --finetune.learning_rate 0.01 --out runs/longer\n"
        "  amc finetune runs/mine-pruned --devices 2\n"
        "  torchrun --nproc-per-node 8 -m amc finetune runs/mine-pruned\n"
        "  amc finetune --out runs/longer --resume"
    ),
)
