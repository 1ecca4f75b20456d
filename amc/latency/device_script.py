"""Times the networks of a folder in onnxruntime, and writes what it finds into profile.json.

`amc profile --prepare DIR` copies this file beside the networks. It needs only numpy and onnxruntime:

    python measure.py                 # in the folder; run it again after an interruption
    python measure.py --threads 4 --rounds 15

Bring profile.json back, and give it to `amc compress --budget.latency 0.5 --budget.profile profile.json`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

WARM_UPS = 3
PLAN, PROFILE = "plan.json", "profile.json"
SECONDS_BETWEEN_LINES = 5.0


def percentiles(times: Sequence[float]) -> list[float]:
    """Returns the median and the 90th percentile."""
    return [float(numpy.percentile(times, 50)), float(numpy.percentile(times, 90))]


def clock_for(threads: int) -> Callable[[], float]:
    """Returns a clock, in seconds: with one thread the processor time, which other programs do not affect."""
    return time.thread_time if threads == 1 else time.perf_counter


def in_turn(runs: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[list[float]]:
    """Times several things in turn, reversing the order from round to round.

    Each runs once untimed before it is timed, so that the caches hold its own weights, as they do for a network that
    runs repeatedly, and not those of the previous one.

    Args:
        runs: What to time.
        rounds: How often each is timed, after a few warm-up rounds.
        clock: Returns seconds.

    Returns:
        Milliseconds by what was timed, one per round.
    """
    for _ in range(WARM_UPS):
        for run in runs:
            run()
    times: list[list[float]] = [[] for _ in runs]
    order = list(range(len(runs)))
    for _ in range(rounds):
        for index in order:
            runs[index]()
            start = clock()
            runs[index]()
            times[index].append((clock() - start) * 1e3)
        order.reverse()
    return times


class Engine:
    """Networks in onnxruntime on the CPU."""

    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        """Sets the number of threads."""
        self.threads = threads

    def open(self, model: str | bytes, trace: str | None = None) -> Any:
        """Opens a network; with `trace` onnxruntime writes the times of its operators to a file of that prefix."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if trace is not None:
            options.enable_profiling, options.profile_file_prefix = True, trace
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def feed(self, session: Any) -> dict[str, Any]:
        """Returns an input of random numbers for a network whose input shapes are fixed."""
        numbers = numpy.random.default_rng(0)
        kinds = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool"}
        return {
            entry.name: numbers.standard_normal(entry.shape).astype(kinds.get(entry.type, "float32"))
            for entry in session.get_inputs()
        }

    def compare(
        self, dense: Any, network: str | bytes, rounds: int, clock: Callable[[], float] | None = None
    ) -> dict[str, Any]:
        """Times a network and the dense one alternately, and the network's operators.

        Returns:
            `"dense"` and `"network"`: median and 90th percentile in ms; `"ratio"`: the median of each round's ratio;
            `"operators"`: see `operators_in`.
        """
        with tempfile.TemporaryDirectory() as folder:
            session, traced = self.open(network), self.open(network, os.path.join(folder, "trace"))
            feed, dense_feed = self.feed(session), self.feed(dense)
            runs = [
                lambda: dense.run(None, dense_feed),
                lambda: session.run(None, feed),
                lambda: traced.run(None, feed),
            ]
            times = in_turn(runs, rounds, clock or clock_for(self.threads))
            with open(traced.end_profiling(), encoding="utf-8") as file:
                events = json.load(file)
        return {**compared(times[0], times[1]), "operators": operators_in(events)}


def compared(dense: Sequence[float], network: Sequence[float]) -> dict[str, Any]:
    """Returns the figures of alternating measurements, in ms."""
    ratios = [own / max(other, 1e-9) for own, other in zip(network, dense, strict=True)]
    return {
        "dense": percentiles(dense),
        "network": percentiles(network),
        "ratio": float(numpy.median(ratios)),
    }


def operators_in(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Gathers the times of operators from a trace of onnxruntime's.

    Returns:
        One entry an operator, in the order of execution: `"name"`, `"kind"`, `"us"` (median and 90th percentile in
        microseconds), `"shape"`: the lengths of all axes of its inputs and outputs.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: dict[str, int] = {}  # within one run: operators that onnxruntime inserts have no names
    for event in events:
        arguments = event.get("args", {})
        if event.get("name") == "model_run":
            seen = {}
        if event.get("cat") != "Node" or not str(event.get("name", "")).endswith("_kernel_time"):
            continue
        name = event["name"][: -len("_kernel_time")]
        seen[name] = seen.get(name, 0) + 1
        name = name if seen[name] == 1 else f"{name}#{seen[name]}"
        shapes = [*arguments.get("input_type_shape", []), *arguments.get("output_type_shape", [])]
        entry = found.setdefault(name, {"name": name, "kind": arguments.get("op_name", ""), "us": []})
        entry["shape"] = [int(n) for tensor in shapes for shape in tensor.values() for n in shape]
        entry["us"].append(float(event["dur"]))
    for entry in found.values():
        entry["us"] = percentiles(entry["us"][WARM_UPS:] or entry["us"])
    return list(found.values())


def describe_device(threads: int) -> dict[str, Any]:
    """Describes the device and the engine, as in the profile."""
    import onnxruntime

    return {
        "engine": Engine.name,
        "threads": threads,
        "precision": "float32",
        "processor": processor_name(),
        "flags": processor_flags(),
        "versions": {
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


def processor_name() -> str:
    """Returns the processor's architecture, and its model if the system says."""
    lines = _processor_lines()
    model = next((lines[key] for key in ("model name", "Hardware", "CPU part") if key in lines), platform.processor())
    return f"{platform.machine()} {model}".strip()


def processor_flags() -> list[str]:
    """Returns the processor's extensions that kernels are written for."""
    lines = _processor_lines()
    flags = (lines.get("flags") or lines.get("Features") or "").split()
    known = ("avx", "fma", "amx", "sse4", "asimd", "neon", "sve", "fp16", "i8mm", "bf16")
    return sorted(flag for flag in flags if flag.startswith(known))


def _processor_lines() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = [line.partition(":") for line in text.splitlines() if ":" in line]
    return {name.strip(): value.strip() for name, _, value in reversed(pairs)}


def save(path: Path, record: Mapping[str, Any]) -> None:
    """Replaces a file atomically: a kill leaves the old one or the new one."""
    partial = path.with_name(path.name + ".part")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(record, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def measure_folder(folder: Path, threads: int, rounds: int) -> None:
    """Measures every network of a folder that has not been measured yet, and says so at once through a pipe, too."""
    say = functools.partial(print, flush=True)
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    path = folder / PROFILE
    planned = {"planned": len(plan["networks"])}
    profile = {**plan, **planned, **describe_device(threads), "rounds": rounds, "networks": []}
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        same = ("engine", "threads", "rounds", "processor", "versions", "decisions")
        if all(earlier.get(name) == profile[name] for name in same):
            profile["networks"] = earlier["networks"]
        else:
            raise SystemExit(
                f"{path} was started with other settings (threads, rounds, device or versions): remove it, or use those"
            )
    engine = Engine(threads)
    dense = engine.open(str(folder / plan["networks"][0]["file"]))
    start, before = time.perf_counter(), len(profile["networks"])
    next_line = start
    for number, network in enumerate(plan["networks"][before:], before):
        found = engine.compare(dense, str(folder / network["file"]), rounds)
        profile["networks"].append({**network, **found})
        save(path, profile)
        done, total = number + 1, len(plan["networks"])
        now = time.perf_counter()
        if now >= next_line and done < total:
            say(f"{done} of {total} networks, {(now - start) / (done - before) * (total - done):.0f} s left")
            next_line = now + SECONDS_BETWEEN_LINES
    say(f"{len(profile['networks'])} of {len(plan['networks'])} networks are measured; bring {path} back")


def main() -> None:
    """Measures the networks beside this file."""
    parser = argparse.ArgumentParser(description="Times the networks beside this file; writes profile.json.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    measure_folder(Path(__file__).resolve().parent, options.threads, options.rounds)


if __name__ == "__main__":
    main()
