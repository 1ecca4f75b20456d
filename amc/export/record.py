"""What an export measured, for `summary.json`."""

from __future__ import annotations

from typing import Any

from amc.export.comparison import Comparison
from amc.export.exporting import ExportReport
from amc.runtime.latency import Latency


def export_record(report: ExportReport, comparison: Comparison) -> dict[str, Any]:
    """Returns sizes in bytes and latencies in milliseconds of the dense and the pruned network, JSON-able."""
    return {
        "file": str(report.path),
        "difference": report.difference,
        "size_bytes": {"dense": comparison.dense_bytes, "pruned": report.size_bytes},
        "latency_ms": [
            {
                "engine": engine,
                "batch_size": pruned.batch_size,
                "dense": _figures(dense),
                "pruned": _figures(pruned),
                "speed_up": None if dense is None else pruned.speed_up_over(dense),
            }
            for engine, dense, pruned in comparison.pairs()
        ],
        "device": comparison.device,
        "threads": comparison.threads,
    }


def _figures(latency: Latency | None) -> dict[str, float] | None:
    if latency is None:
        return None
    return {"median": latency.median_ms, "p10": latency.p10_ms, "p90": latency.p90_ms}
