"""`amc pack`: a run's network in one small file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from amc.cli.command import Command
from amc.cli.consent import trusted
from amc.cli.options import WITHOUT_SEARCH, add_run_options, options_of_run, run_config
from amc.cli.resume import check_started_from
from amc.cli.spelling import read_spellings
from amc.cli.words import find_run
from amc.packing.settings import PackConfig
from amc.storage.names import CONFIG, PACKED
from amc.utils.conversion import from_mapping

if TYPE_CHECKING:
    from amc.data import DataRoles
    from amc.pipeline.config import RunConfig
    from amc.utils.progress_display import ProgressDisplay

_UNUSED = (*WITHOUT_SEARCH, "model", "weights", "classes", "budget", "pruning", "deterministic")
_FIELDS = tuple(field.name for field in dataclasses.fields(PackConfig))


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options that say which network, and in how many bits."""
    parser.add_argument("run", type=str, metavar="RUN", help="Folder of a finished run.")
    parser.add_argument(
        "--out", metavar="FILE", type=str | None, default=None, help=f"File to write; unset: RUN/{PACKED}."
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace what --out holds already.")
    parser.add_class_arguments(PackConfig, as_group=True)
    for action in parser._actions:
        action.metavar = {"bits": "LAYER=N,LAYER=N", "initialisation": "NAME"}.get(action.dest, action.metavar)
        if action.dest in _FIELDS and action.dest not in ("bits", "initialisation"):
            action.metavar = "N"
    add_run_options(parser, hide=_UNUSED)


def defaults(words: Sequence[str]) -> list[str]:
    """Takes the options of the run that the words name."""
    folder = find_run(words)
    return [] if folder is None else options_of_run(folder)


def run(options: jsonargparse.Namespace) -> None:
    """Packs, compares accuracy and sizes, and shows what the bits are spent on.

    Raises:
        AmcError: If the folder, an option, the data or the network cannot be used.
    """
    from amc.cli.setup import check_images, display, load_run
    from amc.pipeline.pack import check_free, pack
    from amc.pipeline.recorder import ShowingRecorder
    from amc.report.packing_table import accuracy_line, packing_table, sizes_line
    from amc.report.tables import render
    from amc.storage.load import read_architecture
    from amc.storage.packed import dense_size, unpacked_size

    folder, config = Path(options.run), run_config(options)
    settings = from_mapping(PackConfig, read_spellings({name: options[name] for name in _FIELDS}))
    out = Path(options.out) if options.out else folder / PACKED
    check_free(out, overwrite=options.overwrite)
    check_started_from(folder, config)
    model, architecture = load_run(folder, trust=trusted(options)), read_architecture(folder)
    shown = display(options)
    data = _data(folder, config, shown)
    if data is not None:
        check_images(model, data)
    elif settings.pack_epochs:
        shown.say("the folder names no data: shared values are not trained, and accuracy is not measured")
    report = pack(
        model,
        out,
        settings,
        data,
        architecture=architecture,
        finetune=config.finetune,
        seed=config.seed,
        device=config.device,
        overwrite=options.overwrite,
        recorder=ShowingRecorder(shown),
    )
    print(render(packing_table(report)), end="")
    if report.accuracy:
        print(f"test accuracy: {accuracy_line(report)}")
    sizes = {"the dense network": dense_size(architecture, model), "the network as it was": unpacked_size(model)}
    print(sizes_line(report, sizes))


def _data(folder: Path, config: RunConfig, shown: ProgressDisplay) -> DataRoles | None:
    """Loads the data of the run; None if its folder names none, such as one saved from Python."""
    from amc.cli.setup import load_roles, names_data

    if not (folder / CONFIG).is_file() and not names_data(config):
        return None
    return load_roles(config.data, config.seed, shown)


COMMAND = Command(
    add_arguments,
    run,
    defaults=defaults,
    usage="RUN [options]",
    description=(
        "Writes the network of a finished run into one small file, as Deep Compression does: the weights of a layer\n"
        "take only 2^bits values (k-means), which are trained for some epochs; which value a weight has, and where\n"
        "the weights that are not zero stand, is written by Huffman codes. amc.load reads the file, without pickle,\n"
        "and gives the same network. It pays most after weight pruning; channels that are gone need no places."
    ),
    examples=(
        "  amc pack runs/mine\n"
        "  amc pack runs/mine --conv_bits 5 --fc_bits 4 --bits 'conv1=8,linear=6' --out mine.amcpack\n"
        "  amc pack runs/mine --pack_epochs 5 --pack_rate 3e-5\n"
        "  python -c \"import amc; net = amc.load('runs/mine/model.amcpack')\""
    ),
)
