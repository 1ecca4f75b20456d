"""`amc export`: a run's network as a file for other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from amc.cli.command import Command
from amc.cli.consent import add_trust_option, trusted
from amc.cli.options import add_progress_option
from amc.cli.resume import check_started_from
from amc.errors import ConfigurationError, RunFolderError
from amc.storage.names import EXPORT
from amc.utils.plain_json import as_type, read_json

if TYPE_CHECKING:
    from amc.export import ExportReport
    from amc.export.comparison import Comparison
    from amc.utils.progress_display import ProgressDisplay


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("run", metavar="RUN", type=str, help="Folder of a finished run.")
    parser.add_argument("--format", metavar="NAME", type=str, default="onnx", help="onnx, torch_export or safetensors.")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=str | None,
        default=None,
        help="File to write (a folder for safetensors); unset: in RUN/export.",
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace what --out holds already.")
    parser.add_argument(
        "--input_shape",
        metavar="N",
        nargs="+",
        type=int,
        default=None,
        help="Shape of one input without the batch axis, such as 3 32 32; unset: as the run recorded it.",
    )
    parser.add_argument(
        "--batch_sizes", metavar="N", nargs="+", type=int, default=[1, 32], help="Batch sizes to measure latency at."
    )
    parser.add_argument(
        "--device", metavar="NAME", type=str, default="auto", help="Where PyTorch is timed: auto, cpu or cuda."
    )
    parser.add_argument(
        "--seconds", metavar="N", type=float, default=20.0, help="Seconds for measuring latency; 0 for no measurement."
    )
    add_trust_option(parser)
    add_progress_option(parser)


def run(options: jsonargparse.Namespace) -> None:
    """Exports a run's network, and shows size and latency beside the dense network's.

    Raises:
        AmcError: If an option or the run cannot be used, or the exported file is not right.
    """
    # Here, so that --help does not wait for them.
    from amc.cli.setup import display
    from amc.export import FORMATS, export_model
    from amc.export.comparison import compare, latency_table
    from amc.export.exporting import check_target
    from amc.export.run_networks import open_run
    from amc.report.tables import render
    from amc.runtime import resolve_device
    from amc.utils.folder_lock import refuse_links
    from amc.utils.registry import current_folder_on_path

    if not options.batch_sizes or min(options.batch_sizes) < 1:
        raise ConfigurationError(f"--batch_sizes must be positive numbers, not {options.batch_sizes}")
    if not options.seconds >= 0:
        raise ConfigurationError(f"--seconds must be at least 0, not {options.seconds:g}")
    folder, name = Path(options.run), FORMATS.get(options.format).default_name
    device = resolve_device(options.device)
    out = Path(options.out) if options.out else folder / EXPORT / name
    if not options.out:
        refuse_links(folder, (EXPORT, f"{EXPORT}/{name}"))
    check_target(out, folder=options.format == "safetensors", overwrite=options.overwrite)
    check_started_from(folder)
    trust = trusted(options)
    with current_folder_on_path() if trust else nullcontext():
        networks = open_run(folder, options.input_shape, trust=trust)
    shown = display(options)
    with shown.stage(f"export to {options.format}", 1, "files") as advance:
        report = export_model(
            networks.pruned,
            out,
            options.format,
            networks.example,
            architecture=networks.architecture,
            metadata=_metadata(folder),
            overwrite=options.overwrite,
        )
        advance(1.0)
    with shown.stage("compare with the dense network") as advance, _written(report):
        comparison = compare(
            networks,
            report,
            batch_sizes=options.batch_sizes,
            device=device,
            max_seconds=options.seconds,
            advance=advance,
        )
        advance(1.0)
    _remember(folder, report, comparison, shown)
    print(_words(report, comparison))
    if comparison.latencies:
        print(render(latency_table(comparison)), end="")
    if comparison.hint:
        print(comparison.hint)


@contextmanager
def _written(report: ExportReport) -> Iterator[None]:
    """Says after a Ctrl-C that the file is there: the same command would refuse to write it again."""
    from amc.report.origin import RunInterrupted

    try:
        yield
    except KeyboardInterrupt as stop:
        raise RunInterrupted(f"{report.path} is written and whole; only its latency was not measured") from stop


def _remember(folder: Path, report: ExportReport, comparison: Comparison, shown: ProgressDisplay) -> None:
    """Adds what was measured to the run's figures, by format; an export before of the same format is replaced."""
    from amc.export.record import export_record
    from amc.storage.names import SUMMARY
    from amc.utils.json_files import write_json

    file = folder / SUMMARY
    if not file.is_file():
        shown.say(f"{folder} has no {SUMMARY}: what was measured is not kept")
        return
    try:
        summary = as_type(read_json(file), dict[str, Any])
        exports = summary.get("exports")
        known = exports if isinstance(exports, dict) else {}
        write_json(file, {**summary, "exports": {**known, report.format: export_record(report, comparison)}})
    except (OSError, ValueError) as error:
        shown.say(f"what was measured is not kept: {file} must be readable and writable: {error}")


def _metadata(folder: Path) -> dict[str, str]:
    """Returns what an ONNX file holds about a run, as JSON: how images become inputs, and the names of the classes."""
    from amc.storage.names import PREPROCESSING

    file = folder / PREPROCESSING
    if not file.is_file():
        return {}
    try:
        record = as_type(read_json(file), dict[str, Any])
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{file} must say how pictures are prepared: {error}; put the run's own back, or delete it to leave it out"
        ) from error
    return {"preprocessing": json.dumps(record), "class_names": json.dumps(record.get("class_names", []))}


def _words(report: ExportReport, comparison: Comparison) -> str:
    """Describes what was written and how large it is."""
    size = f"{report.size_bytes / 1e3:,.1f} kB"
    if comparison.dense_bytes is None:
        size += " (the dense network cannot be rebuilt for comparison)"
    else:
        size += f", dense {comparison.dense_bytes / 1e3:,.1f} kB: {report.size_bytes / comparison.dense_bytes:.1%}"
    return (
        f"{report.path}: {report.format}, {size}\n"
        f"outputs equal PyTorch's to {report.difference:.1e} of the largest, at batch sizes 1 and 3"
    )


COMMAND = Command(
    add_arguments,
    run,
    description=(
        "Writes the network of a finished run as a file for other programs: an ONNX graph, a torch.export program, or\n"
        "safetensors for amc.load. The file is run and compared with PyTorch before it is put in place; then the\n"
        "dense and the pruned network are timed side by side."
    ),
    usage="RUN [options]",
    examples=(
        "  amc export runs/mine\n"
        "  amc export runs/mine --format torch_export --out mine.pt2\n"
        "  amc export runs/mine --batch_sizes 1 8 32 --overwrite"
    ),
)
