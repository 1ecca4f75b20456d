"""Measuring a profile: each network alternately with the dense one; resumable after each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from amc.errors import ConfigurationError, RunFolderError
from amc.latency import device_script, torch_engine
from amc.latency.check import errors_of
from amc.latency.fit import fit_latency
from amc.latency.networks import network_with, on_cpu, onnx_bytes
from amc.latency.plan import Planned
from amc.latency.profile_file import FORMAT, Network, Profile, read_profile, write_profile
from amc.problem.space import DecisionSpace
from amc.runtime.inputs import with_batch
from amc.structure import ModelStructure
from amc.utils.folder_lock import sole_writer
from amc.utils.plain_json import as_type
from amc.utils.progress import Progress, silent

SCRIPT = "measure.py"
_HEADER = ("model", "decisions", "steps", "planned", "batch", "engine", "threads", "processor", "versions", "rounds")
_SLOWED = 1.3
"""If the dense network takes this much longer at the end than at the beginning, the device throttles or is busy."""


NetworkOf = Callable[[Mapping[str, int]], nn.Module]
"""Builds the network for widths by decision; see `amc.latency.networks.network_with`."""


class Timer(Protocol):
    """Times the networks of a family with one engine."""

    def describe(self) -> dict[str, Any]:
        """Describes engine and device, as a profile holds them."""

    def compare(self, network: nn.Module, rounds: int) -> dict[str, Any]:
        """Times a network alternately with the dense one; see `device_script.Engine.compare`."""


class OnnxTimer:
    """Times networks in onnxruntime."""

    def __init__(self, model: nn.Module, structure: ModelStructure, example: Any, threads: int) -> None:
        """Opens the dense network."""
        self._example, self._engine = example, device_script.Engine(threads)
        self._dense = self._engine.open(onnx_bytes(network_with(model, structure, {}), example))

    def describe(self) -> dict[str, Any]:
        """Describes engine and device; see `Timer`."""
        return device_script.describe_device(self._engine.threads)

    def compare(self, network: nn.Module, rounds: int) -> dict[str, Any]:
        """Times a network; see `Timer`."""
        return self._engine.compare(self._dense, onnx_bytes(network, self._example), rounds)


class TorchTimer:
    """Times networks in PyTorch."""

    def __init__(self, model: nn.Module, structure: ModelStructure, example: Any, threads: int) -> None:
        """Copies the dense network."""
        self._engine = torch_engine.TorchEngine(threads, example)
        self._dense = self._engine.open(network_with(model, structure, {}))

    def describe(self) -> dict[str, Any]:
        """Describes engine and device; see `Timer`."""
        return torch_engine.describe_device(self._engine.threads)

    def compare(self, network: nn.Module, rounds: int) -> dict[str, Any]:
        """Times a network; see `Timer`."""
        return self._engine.compare(self._dense, network, rounds)


_TIMERS: dict[str, Callable[[nn.Module, ModelStructure, Any, int], Timer]] = {
    "onnxruntime": OnnxTimer,
    "torch": TorchTimer,
}


def timer_for(
    engine: str, model: nn.Module, structure: ModelStructure, example: Any, batch: int, threads: int
) -> Timer:
    """Returns what times the networks of a family.

    Args:
        engine: `"onnxruntime"` or `"torch"`.
        model: The dense network.
        structure: Its structure.
        example: One input of it.
        batch: Inputs per run.
        threads: Threads of the engine.
    """
    return _TIMERS[engine](model, structure, with_batch(on_cpu(example), batch), threads)


def begin_profile(
    name: str, space: DecisionSpace, plan: Sequence[Planned], device: dict[str, Any], batch: int, rounds: int
) -> Profile:
    """Returns a profile without measurements."""
    record = {**_family(name, space, plan, batch), **device, "rounds": rounds, "networks": []}
    return as_type(record, Profile)


def measure_profile(
    profile: Profile,
    plan: Sequence[Planned],
    network_of: NetworkOf,
    timer: Timer,
    path: Path,
    advance: Progress = silent,
) -> Profile:
    """Measures the remaining networks, and checks the fitted model.

    Args:
        profile: A profile without measurements.
        plan: The networks.
        network_of: Builds the network for some widths.
        timer: Times them.
        path: The file, written after every network; an unfinished one from the same call is continued.
        advance: Takes the share that is done, 0 to 1, as it grows.

    Raises:
        ConfigurationError: If the file holds another profile.
        RunFolderError: If it cannot be written, or another process writes it.
    """
    with sole_writer(path):
        if path.exists():
            profile.networks += _earlier(path, profile, plan).networks
        for number in range(len(profile.networks), len(plan)):
            planned = plan[number]
            found = timer.compare(network_of(planned.widths), profile.rounds)
            record = {"role": planned.role, "widths": dict(planned.widths), **found}
            profile.networks.append(as_type(record, Network))
            _write(path, profile)
            advance((number + 1) / len(plan))
        profile.check = errors_of(profile, fit_latency(profile))
        _write(path, profile)
    return profile


def prepare_folder(
    folder: Path,
    name: str,
    space: DecisionSpace,
    plan: Sequence[Planned],
    model: nn.Module,
    structure: ModelStructure,
    example: Any,
    batch: int = 1,
    advance: Progress = silent,
) -> None:
    """Writes the files for another device to measure a profile: ONNX files without weights, and a script.

    Args:
        folder: A new or empty folder.
        name: The network, as the user named it.
        space: Its decisions.
        plan: The networks to measure.
        model: The dense network.
        structure: Its structure.
        example: One input of it.
        batch: Inputs in one run.
        advance: Takes the share that is done, 0 to 1, as it grows.

    Raises:
        RunFolderError: If the folder is not empty or cannot be written.
        ExportError: If PyTorch cannot export a network.
    """
    inputs = with_batch(on_cpu(example), batch)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunFolderError(f"the folder of --prepare must be new or empty, and {folder} is not; name another")
        entries = []
        for number, planned in enumerate(plan):
            file = f"network{number:03d}.onnx"
            (folder / file).write_bytes(onnx_bytes(network_with(model, structure, planned.widths), inputs))
            entries.append({"role": planned.role, "widths": dict(planned.widths), "file": file})
            advance((number + 1) / len(plan))
        device_script.save(folder / device_script.PLAN, {**_family(name, space, plan, batch), "networks": entries})
        shutil.copyfile(device_script.__file__, folder / SCRIPT)
    except OSError as error:
        raise RunFolderError(f"the folder of --prepare must be writable: {error}") from error


def slowed(profile: Profile) -> str | None:
    """Returns a warning if the device became slower while it was measured; None if it did not."""
    times = [network.dense[0] for network in profile.networks]
    third = max(1, len(times) // 3)
    before, after = sorted(times[:third])[third // 2], sorted(times[-third:])[third // 2]
    if after < _SLOWED * before:
        return None
    return (
        f"the device became {after / before:.1f} times slower while it was measured (it throttles, or other programs "
        "run): shares of time cancel that out, milliseconds do not"
    )


def _family(name: str, space: DecisionSpace, plan: Sequence[Planned], batch: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model": name,
        "decisions": {decision.name: decision.size for decision in space.decisions},
        "steps": {decision.name: decision.step for decision in space.decisions},
        "planned": len(plan),
        "batch": batch,
    }


def _earlier(path: Path, profile: Profile, plan: Sequence[Planned]) -> Profile:
    """Reads the measurements of an earlier start.

    Raises:
        ConfigurationError: If it measured something else, or other networks, which a seed chooses.
    """
    earlier = read_profile(path)
    for name in _HEADER:
        if getattr(earlier, name) != getattr(profile, name):
            raise ConfigurationError(
                f"{path} holds a profile with {name} {getattr(earlier, name)!r}, not {getattr(profile, name)!r}; "
                "name another file with --out, or remove it"
            )
    if [(each.role, each.widths) for each in earlier.networks] != [
        (each.role, dict(each.widths)) for each in plan[: len(earlier.networks)]
    ]:
        raise ConfigurationError(
            f"{path} holds times of other networks than these, such as another --seed draws; name another file with "
            "--out, or remove it"
        )
    return earlier


def _write(path: Path, profile: Profile) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # if it was deleted meanwhile, what was measured is not lost
        write_profile(path, profile)
    except OSError as error:
        raise RunFolderError(f"the file of the profile must be writable: {error}; choose another --out") from error
