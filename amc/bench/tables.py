"""The figures of the bench, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from amc.bench.curve import CurvePoint
from amc.bench.speed import BenchReport
from amc.utils.counted import counted

_LABELS = {
    "forward": "network's forward passes",
    "recalibration": "batch norms re-estimated",
    "assembly": "candidate's weights looked up",
    "agent": "agent",
    "environment": "environment",
    "rest": "rest",
}


def speed_table(report: BenchReport) -> Table:
    """Shows the speed of the search, beside the reference's where it was measured."""
    search, reference = report.search, report.reference
    table = Table(
        title=_measured(report, len(search.seconds)),
        caption="reference: float32, masked network, least squares solved in every episode; seconds: medians of rounds",
    )
    table.add_column("")
    table.add_column("amc", justify="right")
    table.add_column("reference", justify="right")
    seconds = search.seconds_per_episode
    slow = None if reference is None else reference.seconds_per_episode
    rows: list[tuple[str, float | None, float | None, str]] = [
        ("seconds an episode", seconds, slow, ".3f"),
        ("episodes a second", 1 / seconds, slow and 1 / slow, ".3f"),
        ("images a second", search.images / seconds, None, ",.0f"),
        ("images that score a candidate", search.images, None, ",.0f"),
        ("set-up, seconds", search.setup_seconds, None if reference is None else reference.setup_seconds, ".1f"),
    ]
    for label, ours, theirs, form in rows:
        table.add_row(label, _number(ours, form), _number(theirs, form))
    for name, share in search.split.items():
        table.add_row(_LABELS[name], f"{share:.1f} %", "")
    table.add_row("peak memory, MB", _megabytes(search.peak_memory), "")
    if search.peak_device_memory is not None:
        table.add_row("peak memory on the GPU, MB", _megabytes(search.peak_device_memory), "")
    if reference is not None:
        table.add_row("stored activations, MB", "", _megabytes(reference.memory))
        table.add_row("reference takes, times as long", f"{report.ratio:.1f}", "")
    return table


def curve_table(points: Sequence[CurvePoint]) -> Table:
    """Shows the time of an episode by network."""
    table = Table(
        title="; ".join(dict.fromkeys(_measured(point, point.rounds) for point in points)),
        caption="ps: picoseconds for every image and FLOP of the dense network; a multiply-add is one FLOP",
    )
    table.add_column("network", no_wrap=True)
    for heading in ("layers", "decisions", "FLOPs", "images", "s an episode", "ps", "forward", "set-up s"):
        table.add_column(heading, justify="right")
    for point in points:
        table.add_row(
            point.model,
            str(point.layers),
            str(point.decisions),
            f"{point.flops:,}",
            f"{point.images:,.0f}",
            f"{point.seconds:.3f}",
            f"{point.picoseconds:.2f}",
            f"{point.forward:.1f} %",
            f"{point.setup_seconds:.1f}",
        )
    return table


def _measured(found: BenchReport | CurvePoint, rounds: int) -> str:
    """Says what was measured, and how."""
    time = "processor time" if found.clock == "processor" else "time on the clock"
    return f"{found.device}, {found.dtype}, {counted(found.threads, 'CPU thread')}, {counted(rounds, 'round')}, {time}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:,.0f}"
