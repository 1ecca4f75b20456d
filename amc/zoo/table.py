"""The table of networks, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amc.zoo.contracts import CONTRACTS
from amc.zoo.sweep import OK, Outcome

OUTPUT = "the network's output"

START, END = "<!-- table: amc zoo -->", "<!-- end of table -->"
"""What the table stands between in a file that holds other text too."""

HEADINGS = ("model", "groups", "FLOPs that can go", *CONTRACTS)


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Returns the table, what failed, and what is left alone with the reason."""
    holding = sum(outcome.holds for outcome in outcomes)
    parts = [f"All contracts hold for {holding} of {len(outcomes)} networks.", _table(outcomes)]
    for title, lines in (("Failures", _failures(outcomes)), ("Left alone", _left_alone(outcomes))):
        if lines:
            parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_table(file: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes the table to a file; between the two marks if the file has them, so that its other text stays."""
    before, after = "", ""
    if file.exists() and START in (text := file.read_text(encoding="utf-8")) and END in text:
        before, after = text[: text.index(START)], text[text.index(END) + len(END) :]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{before}{START}\n\n{markdown(outcomes)}\n{END}{after or chr(10)}", encoding="utf-8")


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = [HEADINGS, ("---", "---:", "---:", *[":---:"] * len(CONTRACTS)), *map(_row, outcomes)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(outcome: Outcome) -> tuple[str, ...]:
    name = outcome.model + ("*" if outcome.streams else "")
    marks = {contract: "ok" if result == OK else "**no**" for contract, result in outcome.contracts.items()}
    results = [marks.get(contract, "-") for contract in CONTRACTS]
    return (name, f"{outcome.prunable}/{outcome.groups}", f"{100 * outcome.share:.1f}%", *results)


def _failures(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"- {outcome.model}, {contract}: {result}"
        for outcome in outcomes
        for contract, result in outcome.contracts.items()
        if result != OK
    ]


def _left_alone(outcomes: Sequence[Outcome]) -> list[str]:
    """Lists groups other than the output by reason and model."""
    return [
        f"- {outcome.model}: {count} {'group' if count == 1 else 'groups'}, {reason}"
        for outcome in outcomes
        for reason, count in outcome.left_alone.items()
        if reason != OUTPUT
    ]
