"""What runs in a worker's process."""

from __future__ import annotations

import platform
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from amc import errors
from amc.cluster.parcel import Parcel, unpack
from amc.errors import AmcError
from amc.runtime.threads import computing_with, deterministic_algorithms
from amc.utils.progress import Progress
from amc.utils.versions import versions


@dataclass(frozen=True)
class Failure:
    """An error in a worker, as text.

    Attributes:
        kind: The name of its class.
        message: What it says.
        trace: The traceback, for errors that are nobody's on purpose; empty for others.
    """

    kind: str
    message: str
    trace: str = ""

    @staticmethod
    def of(error: Exception) -> Failure:
        """Describes an error."""
        trace = "" if isinstance(error, AmcError) else traceback.format_exc()
        return Failure(type(error).__name__, str(error), trace)

    def restored(self) -> Exception:
        """Returns the error again; one that is not the project's own, with its traceback as text."""
        kind = getattr(errors, self.kind, None)
        if kind is None:
            return RuntimeError(f"a worker failed: {self.kind}: {self.message}\n{self.trace}")
        error: Exception = kind.__new__(kind)
        error.args = (self.message,)
        return error


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        result: Its result; None if it failed.
        failure: What ended it, if anything did.
        said: The lines that it would have shown.
        warned: The texts of its runtime warnings.
    """

    result: Any = None
    failure: Failure | None = None
    said: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()


@dataclass
class Sign:
    """Keeps what a job shows: how far its first stage is, and what it says."""

    share: float = 0.0
    said: list[str] = field(default_factory=list)
    _depth: int = 0
    _stages: int = 0

    @contextmanager
    def stage(self, title: str, total: int = 100, unit: str = "%") -> Iterator[Progress]:
        """Follows the first stage, which takes longest."""
        is_first = self._stages == 0
        self._stages += 1

        def advance(share: float, note: str = "", /) -> None:
            if is_first:
                self.share = share

        yield advance

    def say(self, line: str) -> None:
        """Keeps a line."""
        self.said.append(line)


class Worker:
    """Holds one replica, and does one job at a time.

    `underway` is called by another thread while `work` runs.
    """

    def __init__(self, threads: int, *, deterministic: bool = False) -> None:
        """Takes how to compute.

        Args:
            threads: Threads of the CPU: as many as the process that started it has, for the same last digits.
            deterministic: Whether GPUs take deterministic algorithms.
        """
        self._threads, self._deterministic = threads, deterministic
        self._replica: Any = None
        self._sign = Sign()

    def facts(self) -> Mapping[str, str]:
        """Returns the versions that results depend on, and what tells this machine from others."""
        return here()

    def open(self, parcel: Parcel) -> str | Failure:
        """Puts the replica together, and returns the fingerprint of its data."""
        try:
            with computing_with(self._threads):
                self._replica = unpack(parcel)
                fingerprint: str = self._replica.fingerprint()
        except Exception as error:
            return Failure.of(error)
        return fingerprint

    def work(self, job: Any) -> Outcome:
        """Does a job."""
        self._sign = sign = Sign()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result, failure = None, None
            try:
                with computing_with(self._threads), deterministic_algorithms(self._deterministic):
                    result = self._replica.work(job, sign)
            except Exception as error:
                failure = Failure.of(error)
        texts = dict.fromkeys(str(found.message) for found in caught if issubclass(found.category, RuntimeWarning))
        return Outcome(result, failure, tuple(sign.said), tuple(texts))

    def underway(self) -> float:
        """Returns the share of the present job that is done, 0 to 1."""
        return self._sign.share


def here() -> dict[str, str]:
    """Returns the versions that results depend on, the machine's name, and the kind of its processor."""
    return {**versions(), "machine": platform.node(), "processor": torch.backends.cpu.get_cpu_capability()}
