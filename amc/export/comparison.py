"""Dense and pruned side by side: size on disk and latency."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.utils._pytree import tree_map

from amc.errors import AmcError
from amc.export.exporting import ExportReport, exportable, size_on_disk
from amc.export.formats import FORMATS, Runner
from amc.export.onnx_format import open_session
from amc.export.run_networks import RunNetworks
from amc.pruning.masks import share_of_zeros
from amc.runtime.call import call
from amc.runtime.latency import WHY_SMALL_IS_NOT_FAST, Latency, measure_latency
from amc.utils.counted import counted
from amc.utils.progress import Progress, silent, spanning

_MANY_ZEROS = 0.2
"""Share of zeros from which a network counts as weight-pruned."""
_SHARES_OF_WRITING = {"onnx": 0.3, "torch_export": 0.2}
"""Share of the whole work that writing the dense network takes; nearly none in other formats."""
EAGER, ONNX = "PyTorch", "onnxruntime"


@dataclass(frozen=True)
class Comparison:
    """Dense and pruned side by side.

    Attributes:
        dense_bytes: Size of the dense network on disk in the same format; None if it cannot be built or exported.
        latencies: By backend: `"PyTorch"` (eager) and, for ONNX files, `"onnxruntime"` (CPU).
        device: Where PyTorch ran.
        threads: Threads of PyTorch and onnxruntime on the CPU.
        zeros: Share of the pruned network's weights that are zero.
    """

    dense_bytes: int | None
    latencies: dict[str, list[Latency]] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    zeros: float = 0.0

    def pairs(self) -> list[tuple[str, Latency | None, Latency]]:
        """Returns backend, dense and pruned latency, one entry per backend and batch size."""
        found = []
        for backend, latencies in self.latencies.items():
            dense = {entry.batch_size: entry for entry in latencies if entry.name == "dense"}
            found += [(backend, dense.get(e.batch_size), e) for e in latencies if e.name == "pruned"]
        return found

    @property
    def hint(self) -> str | None:
        """What to try if the pruned network is not faster, or None."""
        if all(dense is None or pruned.speed_up_over(dense) > 1.0 for _, dense, pruned in self.pairs()):
            return None
        if self.zeros >= _MANY_ZEROS:
            return (
                f"not faster everywhere: {self.zeros:.0%} of the weights are zero, and these engines multiply zeros "
                "too; sparse weights make a smaller file (amc.load reads it), whole channels a faster network "
                "(--pruning.family filter)"
            )
        return f"not faster everywhere: {WHY_SMALL_IS_NOT_FAST}"


def compare(
    networks: RunNetworks,
    report: ExportReport,
    *,
    batch_sizes: Sequence[int] = (1, 32),
    device: torch.device | None = None,
    max_seconds: float = 20.0,
    advance: Progress = silent,
) -> Comparison:
    """Exports the dense network too, and times both.

    Args:
        networks: The networks of a run.
        report: What `export_model` returned for the pruned one.
        batch_sizes: Inputs in one run.
        device: Where PyTorch runs; the CPU if None. onnxruntime runs on the CPU.
        max_seconds: Time for all measurements; none are made if it is 0.
        advance: Takes the share of the measurements that is done, 0 to 1, as it grows.
    """
    device = device or torch.device("cpu")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amc-export-")))
        dense_file = _write_dense(networks, report, scratch)
        backends: dict[str, Callable[[], tuple[dict[str, Callable[[Any], Any]], Any]]] = {
            EAGER: partial(_eager, networks, device)
        }
        if report.format == "onnx":
            backends[ONNX] = partial(_sessions, networks, dense_file, report.path)
        written = 0.0 if dense_file is None else _SHARES_OF_WRITING.get(report.format, 0.0)
        advance(written)
        measured = spanning(advance, written, 1.0)
        latencies: dict[str, list[Latency]] = {}
        if max_seconds > 0:
            for index, (name, prepare) in enumerate(backends.items()):
                models, example = prepare()
                latencies[name] = measure_latency(
                    models,
                    example,
                    batch_sizes,
                    max_seconds=max_seconds / len(backends),
                    advance=spanning(measured, index / len(backends), (index + 1) / len(backends)),
                )
        dense_bytes = None if dense_file is None else size_on_disk(scratch)
    zeros = share_of_zeros(networks.pruned)
    return Comparison(dense_bytes, latencies, str(device), torch.get_num_threads(), zeros)


def latency_table(comparison: Comparison) -> Table:
    """Shows the latencies: one row per backend and batch size, medians with the 10th to 90th percentile."""
    table = Table(
        title="latency in ms: median (10th to 90th percentile)",
        caption=f"dense and pruned timed in turn, speed-up: median of each turn's; {EAGER} on {comparison.device}, "
        f"{counted(comparison.threads, 'CPU thread')}",
    )
    for heading in ("run by", "batch", "dense", "pruned", "speed-up"):
        table.add_column(heading, justify="left" if heading == "run by" else "right")
    for backend, dense, pruned in comparison.pairs():
        faster = "-" if dense is None else f"{pruned.speed_up_over(dense):.2f}x"
        table.add_row(backend, str(pruned.batch_size), _spread(dense), _spread(pruned), faster)
    return table


def _write_dense(networks: RunNetworks, report: ExportReport, scratch: Path) -> Path | None:
    """Writes the dense network in the same format; None if that cannot be done."""
    if networks.dense is None:
        return None
    file = scratch / report.path.name
    try:
        dense = exportable(networks.dense, networks.example, networks.dense_architecture)
        FORMATS.get(report.format).write(dense, file)
    except AmcError:
        return None
    return file


def _eager(networks: RunNetworks, device: torch.device) -> tuple[dict[str, Callable[[Any], Any]], Any]:
    """Returns both networks on a device, and the example there."""
    pair = {"dense": networks.dense, "pruned": networks.pruned}
    models = {name: partial(call, model.to(device).eval()) for name, model in pair.items() if model is not None}
    example = tree_map(lambda item: item.to(device) if isinstance(item, Tensor) else item, networks.example)
    return dict(models), example


def _sessions(
    networks: RunNetworks, dense_file: Path | None, pruned_file: Path
) -> tuple[dict[str, Callable[[Any], Any]], Any]:
    """Opens both ONNX files, and returns the example for them."""
    pair = {"dense": dense_file, "pruned": pruned_file}
    models: dict[str, Runner] = {name: open_session(file) for name, file in pair.items() if file is not None}
    return dict(models), networks.example


def _spread(latency: Latency | None) -> str:
    if latency is None:
        return "-"
    return f"{latency.median_ms:.3g} ({latency.p10_ms:.3g} to {latency.p90_ms:.3g})"
