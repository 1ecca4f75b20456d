"""The results of packing, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from amc.pipeline.pack import PackReport

_KINDS = ("codes", "places", "values", "tables")


def packing_table(report: PackReport) -> Table:
    """Shows what each layer's weights take in the file, in bits per weight kept.

    Args:
        report: What packing came to.
    """
    table = Table(
        caption="levels: distinct values; then bits per weight kept: codes, places, values that are not shared, tables "
        "of levels and of code lengths; last column: bits per weight, zeros included"
    )
    table.add_column("layer", overflow="fold")
    for heading in ("weights", "kept", "levels", *_KINDS, "bits a weight"):
        table.add_column(heading, justify="right")
    for layer in report.layers:
        table.add_row(*_row(layer.name, layer.weights, layer.kept, f"{layer.values:,}", layer.bits))
    bits = {kind: sum(layer.bits.get(kind, 0) for layer in report.layers) for kind in _KINDS}
    weights, kept = (sum(getattr(layer, name) for layer in report.layers) for name in ("weights", "kept"))
    table.add_section()
    table.add_row(*_row("all", weights, kept, "", bits))
    return table


def sizes_line(report: PackReport, sizes: Mapping[str, int | None]) -> str:
    """Compares the size of the file with those of other files of the network.

    Args:
        report: What packing came to.
        sizes: Bytes, by kind of file; unknown ones are left out.
    """
    parts = [
        f"{100 * report.size_bytes / size:.1f}% of {name} ({size / 1e3:,.1f} kB, {size / report.size_bytes:.1f} times)"
        for name, size in sizes.items()
        if size
    ]
    return f"{report.path}: {report.size_bytes / 1e3:,.1f} kB" + (f"; {'; '.join(parts)}" if parts else "")


def accuracy_line(report: PackReport) -> str:
    """Describes the accuracy that sharing weights has cost; empty if it was not measured."""
    names = {"before": "as it was", "shared": "weights shared", "trained": "shared weights trained"}
    return ", ".join(f"{names[stage]} {value:.2f}" for stage, value in report.accuracy.items())


def _row(name: str, weights: int, kept: int, values: str, bits: Mapping[str, int]) -> list[str]:
    each = [f"{bits[kind] / kept:.2f}" if kept and bits.get(kind) else "" for kind in _KINDS]
    total = f"{sum(bits.values()) / max(1, weights):.2f}"
    return [name, f"{weights:,}", f"{kept / max(1, weights):.1%}", values, *each, total]
