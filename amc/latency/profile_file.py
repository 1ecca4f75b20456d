"""The file of a profile: measurements, device and networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from amc.errors import ConfigurationError
from amc.utils.bounded_files import MEBIBYTE, DamagedFileError
from amc.utils.durable_files import write_text
from amc.utils.format_numbers import other_version
from amc.utils.plain_json import as_type, read_json

FORMAT = 1
ENGINES = ("onnxruntime", "torch")
_MOST_BYTES = 64 * MEBIBYTE
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
_Time = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_NetworkTime = Annotated[float, msgspec.Meta(ge=1e-9, le=1e9)]
_Name = Annotated[str, msgspec.Meta(max_length=500)]


class Operator(msgspec.Struct):
    """An operator within a network.

    Attributes:
        name: Its name, the same in all networks of the family.
        kind: What it computes, in the engine's words, such as `"Conv"`.
        us: Median and 90th percentile of its time, in microseconds.
        shape: Lengths of all axes of its inputs and outputs.
    """

    name: _Name
    kind: _Name
    us: tuple[_Time, _Time]
    shape: list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]]


class Network(msgspec.Struct):
    """A network that was timed alternately with the dense one.

    Attributes:
        role: `"dense"`; `"fit"`: the model is made of it; `"check"`: the model is checked on it and has not seen it;
            `"probe"`: its widths lie off the engine's steps.
        widths: Units kept by decision; empty for the dense network.
        dense: Median and 90th percentile of the dense network's time in the same rounds, in ms.
        network: The same of this network.
        ratio: Median of each round's ratio of this network's time to the dense one's.
        operators: Its operators, in the order of execution.
        file: Its file, where the networks were written for another device.
    """

    role: Literal["dense", "fit", "check", "probe"]
    widths: dict[_Name, _Positive]
    dense: tuple[_NetworkTime, _NetworkTime]
    network: tuple[_NetworkTime, _NetworkTime]
    ratio: Annotated[float, msgspec.Meta(ge=1e-6, le=1e6)]
    operators: list[Operator]
    file: str | None = None


class Profile(msgspec.Struct):
    """The measurements of a network at many widths, on one device with one engine.

    Attributes:
        format: Version of the file's form.
        model: The network, as the user named it.
        decisions: Units of the dense network by decision.
        steps: Kept units are multiples of this, by decision.
        planned: How many networks were to be measured.
        batch: Inputs per run.
        engine: `"onnxruntime"` or `"torch"`.
        threads: Threads of the engine.
        precision: Number format, such as `"float32"`.
        processor: Name of the processor.
        flags: Its extensions that kernels are written for.
        versions: Versions of the engine and of other software that matters.
        rounds: How often each network was timed.
        networks: What was measured, the dense network first.
        check: Errors of the model on the networks to check it on; see `amc.latency.check`.
    """

    format: Literal[1]
    model: _Name
    decisions: dict[_Name, _Positive]
    steps: dict[_Name, _Positive]
    planned: _Positive
    batch: _Positive
    engine: _Name
    threads: _Positive
    precision: _Name
    processor: _Name
    flags: list[_Name]
    versions: dict[_Name, _Name]
    rounds: _Positive
    networks: list[Network]
    check: dict[_Name, float] = {}

    @property
    def finished(self) -> bool:
        """Whether all networks were measured."""
        return len(self.networks) >= self.planned

    @property
    def dense_ms(self) -> float:
        """The dense network's time in milliseconds: the median over all comparisons with it."""
        times = sorted(network.dense[0] for network in self.networks)
        return times[len(times) // 2]

    def of_role(self, *roles: str) -> list[Network]:
        """Returns the networks of some roles, in order."""
        return [network for network in self.networks if network.role in roles]


def read_profile(path: Path) -> Profile:
    """Reads a profile and checks it.

    Raises:
        ConfigurationError: If it cannot be read, or is not a profile; the message says what is wrong.
    """
    try:
        record = read_json(path, _MOST_BYTES)
        held = record.get("format") if isinstance(record, dict) else None
        if (words := other_version(held, FORMAT, older="profile again")) is not None:
            raise ConfigurationError(f"{path} {words}")
        profile = as_type(record, Profile)
    except OSError as error:
        raise ConfigurationError(
            f"the profile must be a readable file: {error}; 'amc profile --out FILE' makes one"
        ) from error
    except DamagedFileError as error:
        raise ConfigurationError(f"{path} must be a profile as 'amc profile' writes it: {error}") from error
    if not profile.networks or profile.networks[0].role != "dense":
        raise ConfigurationError(f"{path} must hold the dense network's times first; profile again")
    for network in profile.networks:
        wrong = [name for name, width in network.widths.items() if width > profile.decisions.get(name, 0)]
        if wrong:
            raise ConfigurationError(f"{path} names a width of {wrong[0]!r} that the network does not have")
    return profile


def write_profile(path: Path, profile: Profile) -> None:
    """Writes a profile atomically: a kill leaves the old or the new one.

    Raises:
        OSError: If the file cannot be written.
    """
    record: Any = msgspec.to_builtins(profile)
    write_text(path, json.dumps(record, separators=(",", ":")) + "\n")
