"""`amc zoo`: check which networks can be pruned, and whether all contracts hold on them."""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from amc.cli.command import Command
from amc.cli.options import add_progress_option
from amc.cli.spelling import listed
from amc.errors import AmcError, ConfigurationError, UnknownNameError


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options for the networks and the table."""
    parser.add_argument(
        "--models",
        type=str,
        default="",
        metavar="NAMES",
        help=(
            "Networks, comma-separated, timm:NAME too; patterns such as 'resnet*' work, and 'timm:*' (one network of "
            "every family), 'transformers:*', 'ultralytics:*', 'smp:*', 'monai:*' (small ones of these packages, which "
            "pip installs); unset: all of torchvision's."
        ),
    )
    parser.add_argument(
        "--contracts", type=str, default="", metavar="NAMES", help="Contracts to check, comma-separated; unset: all."
    )
    parser.add_argument(
        "--image_size",
        type=int | None,
        default=None,
        metavar="N",
        help="Size of the images, where a network takes it; unset: the usual one.",
    )
    parser.add_argument(
        "--results",
        type=str | None,
        default=None,
        metavar="FILE",
        help="File for the findings, one JSON line per network; networks that are in it are not examined again.",
    )
    parser.add_argument("--out", type=str | None, default=None, metavar="FILE", help="Markdown file for the table.")
    parser.add_argument("--table_only", action="store_true", help="Examine nothing; make the table from --results.")
    add_progress_option(parser)


def run(options: jsonargparse.Namespace) -> None:
    """Examines the networks, prints one line for each, and writes the table.

    Raises:
        AmcError: If an option cannot be used, or a contract is broken.
    """
    from amc.cli.setup import display
    from amc.zoo.packages import PACKAGED
    from amc.zoo.sweep import append_examination, examine, read_examinations
    from amc.zoo.table import around_table, write_table

    if options.table_only and options.results is None:
        raise ConfigurationError("--table_only needs --results FILE, to make the table from")
    results = None if options.results is None else Path(options.results)
    known = {} if results is None else read_examinations(results)
    if options.table_only and not known:
        raise ConfigurationError(f"--results must hold examinations to make a table of, and {results} holds none")
    if options.out is not None:
        around_table(Path(options.out))  # before hours of work
    contracts, size = _contracts(options.contracts), options.image_size
    chosen = sorted(known) if options.table_only and not options.models else _models(options.models)
    examinations, shown = [], display(options)
    for name in chosen:
        examination = known.get(name)
        if examination is not None and not examination.is_of(size) and name not in PACKAGED:
            examination = None  # of other images
        if examination is None and options.table_only:
            continue
        if examination is None or not (options.table_only or examination.covers(contracts)):
            with shown.stage(name) as advance:
                found = examine(name, contracts, image_size=size, advance=advance)
            examination = found.joined(examination)
            if results is not None:
                append_examination(results, examination)
        examinations.append(examination)
        print(examination.line(), flush=True)
    if options.out is not None:
        write_table(Path(options.out), examinations)
    broken = [examination.model for examination in examinations if not examination.holds]
    if broken:
        raise AmcError(f"contracts must hold on every network, and are broken on {', '.join(broken)}; see above")


def _models(patterns: str) -> list[str]:
    """Returns the names that match some patterns, in the order given."""
    from fnmatch import fnmatchcase

    from amc.models import model_names
    from amc.models.sources import torchvision_names
    from amc.zoo.families import TIMM_FAMILIES
    from amc.zoo.packages import PACKAGED

    if not patterns:
        return torchvision_names()
    names: list[str] = []
    for pattern in listed(patterns):
        matched = [name for name in [*model_names(), *TIMM_FAMILIES, *PACKAGED] if fnmatchcase(name, pattern)]
        if not matched and "*" in pattern:
            raise ConfigurationError(
                f"a pattern must match a model, and {pattern!r} matches none; see amc inspect --list"
            )
        if not matched and ":" not in pattern:
            raise UnknownNameError("model", pattern, model_names())
        if not matched and pattern.partition(":")[0] in {name.partition(":")[0] for name in PACKAGED}:
            raise UnknownNameError("model", pattern, PACKAGED)
        names += matched or [pattern]
    return list(dict.fromkeys(names))


def _contracts(names: str) -> list[str]:
    """Returns the contracts named, all if none is.

    Raises:
        UnknownNameError: If one does not exist.
    """
    from amc.zoo.contracts import CONTRACTS

    chosen = list(listed(names))
    for name in chosen:
        if name not in CONTRACTS:
            raise UnknownNameError("contract", name, CONTRACTS)
    return chosen or list(CONTRACTS)


COMMAND = Command(
    add_arguments,
    run,
    description=(
        "Cuts networks with random weights to half their FLOPs, in two ways, and checks on each that the budget\n"
        "holds, costs are as predicted, the scored network is the delivered one, and that it trains, saves, loads and\n"
        "exports. The table in docs/zoo.md is made with it. All of torchvision takes an hour or more."
    ),
    examples=(
        "  amc zoo --models resnet18,swin_t\n"
        "  amc zoo --models 'timm:resnet50,timm:deit_tiny_patch16_224' --contracts costs,training\n"
        "  amc zoo --results zoo.jsonl --out docs/zoo.md"
    ),
)
