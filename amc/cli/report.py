"""`amc report`: pages on finished runs and studies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from amc.cli.command import Command
from amc.errors import ConfigurationError, RunFolderError, UnknownNameError
from amc.storage.names import PROBLEMS, REPORT, STUDY, WEIGHTS
from amc.utils.counted import counted

if TYPE_CHECKING:
    from amc.report.page import Page

_FORMATS = ("svg", "png", "pdf", "csv")


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the folders to show, and where to write."""
    parser.add_argument("folders", nargs="*", type=str, metavar="RUN", help="Folders of finished runs, or of studies.")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=str | None,
        default=None,
        help=f"The page; unset: {REPORT} in the folder, or in the current one where several are given.",
    )
    parser.add_argument(
        "--figures",
        metavar="DIR",
        type=str | None,
        default=None,
        help="Folder for every figure as a file of its own.",
    )
    parser.add_argument(
        "--formats",
        metavar="NAME",
        nargs="+",
        type=str,
        default=["svg", "png", "csv"],
        help=f"Formats of the figures: {', '.join(_FORMATS)}.",
    )


def run(options: jsonargparse.Namespace) -> None:
    """Writes the page, and the figures if they are asked for.

    Raises:
        AmcError: If a folder holds nothing to show, or a file cannot be written.
    """
    from amc.report.figures import write_figures
    from amc.report.page import joined

    folders = [Path(folder) for folder in options.folders]
    if not folders:
        raise ConfigurationError("amc report needs the folder of a run or a study: amc report runs/mine")
    for kind in options.formats:
        if kind not in _FORMATS:
            raise UnknownNameError("format", kind, _FORMATS)
    file = Path(options.out) if options.out else (folders[0] / REPORT if len(folders) == 1 else Path(REPORT))
    _check_target(file)
    pages = [_page(folder) for folder in folders]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        joined(pages, [str(folder) for folder in folders]).write(file)
        print(f"The report: {file}  (open it in a browser; it needs no network)")
        if options.figures:
            count = 0
            for name, page in zip(_names(folders), pages, strict=True):
                place = Path(options.figures) / name
                count += len(write_figures(page.figures, place, options.formats))
            print(f"The figures: {counted(count, 'file')} in {options.figures}")
    except OSError as error:
        raise RunFolderError(f"the report must be writable: {error}; choose another --out") from error


def _check_target(file: Path) -> None:
    """Checks that a page may be written: nothing but an earlier page is replaced.

    Raises:
        RunFolderError: If it may not.
    """
    if file.is_dir():
        raise RunFolderError(f"--out must be a file, and {file} is a folder; give --out {file / REPORT}")
    if not file.is_file():
        return
    try:
        with file.open("rb") as stream:
            start = stream.read(100).lstrip().lower()
    except OSError as error:
        raise RunFolderError(f"the report must be writable: {error}; choose another --out") from error
    if start and not start.startswith(b"<!doctype html"):
        raise RunFolderError(f"only an HTML page is replaced by a report, and {file} is none; choose another --out")


def _names(folders: Sequence[Path]) -> list[str]:
    """Returns where the figures of each folder lie: in one of its name, numbered where several have that name."""
    if len(folders) == 1:
        return [""]
    found: list[str] = []
    for folder in folders:
        name, number = folder.resolve().name, 1
        while (numbered := name if number == 1 else f"{name}-{number}") in found:
            number += 1
        found.append(numbered)
    return found


def _page(folder: Path) -> Page:
    """Builds the page of a folder."""
    if (folder / PROBLEMS).is_file():
        from amc.study.problems_page import page_of_problems

        return page_of_problems(folder)
    if os.path.lexists(folder / STUDY):
        from amc.study.page import page_of_study

        return page_of_study(folder)
    from amc.report.run_page import page_of_run
    from amc.report.run_record import read_run
    from amc.storage.written_files import check_written

    check_written(folder, WEIGHTS)  # the figures are those of the network that the run wrote
    return page_of_run(read_run(folder))


COMMAND = Command(
    add_arguments,
    run,
    usage="RUN|STUDY... [options]",
    description=(
        "Writes a page on a finished run, a study, or several: what was asked for, what came out, how certain it\n"
        "is, and how to repeat it. It is a single file that any browser opens offline. amc compress and\n"
        "amc study write one by themselves."
    ),
    examples=(
        "  amc report runs/mine\n"
        "  amc report runs/half runs/third --out comparison.html\n"
        "  amc report studies/digits --figures paper --formats pdf csv"
    ),
)
