"""The table of networks, in Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from amc.errors import RunFolderError
from amc.utils.bounded_files import MEBIBYTE, read_text
from amc.utils.counted import counted
from amc.utils.durable_files import write_text
from amc.utils.printable import markdown_line, printable
from amc.zoo.contracts import CONTRACTS
from amc.zoo.sweep import OK, Examination

_ALIKE = re.compile(r"^like '[^']*': ")
"""What stands before the reason of a group that was not tried, as others of its kind had failed."""

OUTPUT = "the network's output"

START, END = "<!-- table: amc zoo -->", "<!-- end of table -->"
"""The marks around the table in a file that also holds other text."""

HEADINGS = ("model", "groups", "FLOPs that can go", *CONTRACTS)


def markdown(examinations: Sequence[Examination]) -> str:
    """Returns the table, the failures, and the groups that are left alone with the reason."""
    holding = sum(examination.holds for examination in examinations)
    every = all(examination.covers([*CONTRACTS]) for examination in examinations)
    held = "All contracts hold" if every else "The contracts that were checked hold"
    parts = [f"{held} for {holding} of {counted(len(examinations), 'network')}.", _table(examinations)]
    for title, lines in (("Failures", _failures(examinations)), ("Left alone", _left_alone(examinations))):
        if lines:
            parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_table(file: Path, examinations: Sequence[Examination]) -> None:
    """Writes the table to a file; between the two marks if the file has them, so that other text stays.

    Raises:
        RunFolderError: If the file is there, and cannot be read or has no marks.
    """
    before, after = around_table(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, f"{before}{START}\n\n{markdown(examinations)}\n{END}{after or chr(10)}")


def around_table(file: Path) -> tuple[str, str]:
    """Returns what a file holds before and after the table; nothing where there is no file.

    Raises:
        RunFolderError: If the file cannot be read, or holds something without the marks.
    """
    try:
        text = read_text(file, MEBIBYTE) if file.exists() else ""
    except (OSError, ValueError) as error:
        raise RunFolderError(f"the file of the table must be Markdown: {error}; give another --out") from error
    if START in text and END in text:
        return text[: text.index(START)], text[text.index(END) + len(END) :]
    if text.strip():
        raise RunFolderError(
            f"{file} must be new, or say by two lines, {START} and {END}, where the table goes; give another --out"
        )
    return "", ""


def _table(examinations: Sequence[Examination]) -> str:
    rows = [HEADINGS, ("---", "---:", "---:", *[":---:"] * len(CONTRACTS)), *map(_row, examinations)]
    return "\n".join(map(markdown_line, rows))


def _row(examination: Examination) -> tuple[str, ...]:
    name = examination.model + ("*" if examination.streams else "")
    marks = {contract: "ok" if result == OK else "**no**" for contract, result in examination.contracts.items()}
    results = [marks.get(contract, "-") for contract in CONTRACTS]
    return (name, f"{examination.prunable}/{examination.groups}", f"{100 * examination.share:.1f}%", *results)


def _failures(examinations: Sequence[Examination]) -> list[str]:
    return [
        printable(f"- {examination.model}, {contract}: {result}")
        for examination in examinations
        for contract, result in examination.contracts.items()
        if result != OK
    ]


def _left_alone(examinations: Sequence[Examination]) -> list[str]:
    """Lists groups other than the output by reason and model, without what an error says of its numbers."""
    lines = []
    for examination in examinations:
        counts: Counter[str] = Counter()
        for reason, count in examination.left_alone.items():
            counts[_ALIKE.sub("", reason).partition(": ")[0]] += count
        lines += [
            printable(f"- {examination.model}: {counted(count, 'group')}, {reason}")
            for reason, count in counts.items()
            if reason != OUTPUT
        ]
    return lines
