"""A group of processes, joined through Lightning Fabric."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from amc.errors import ConfigurationError, ProcessLostError
from amc.runtime.call import first_line
from amc.runtime.collectives import Collectives
from amc.training.distributed.shared_memory import SharedMemory

_STEP_TIMEOUT, _WAIT_TIMEOUT = timedelta(hours=3), timedelta(days=60)
"""How long a process waits for the others within a training, which is as long as the scoring of an epoch may take; and
for the first one's next piece of work."""

EXTRA = "pip install 'amc-compress[devices]'"

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Place:
    """Where a process stands among all of them.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        local_rank: Its number on its machine.
        local_size: How many that machine has.
        address: Host of the first process.
        port: Its port.
        device: `"cpu"` or `"cuda"`.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    device: str

    @classmethod
    def of_torchrun(cls, device: str) -> Place:
        """Returns the place that `torchrun` has put into the environment."""
        number = {name: int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
        return cls(
            number["RANK"],
            number["WORLD_SIZE"],
            number["LOCAL_RANK"],
            number["LOCAL_WORLD_SIZE"],
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            device,
        )


def under_torchrun() -> bool:
    """Returns whether `torchrun` has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def check_installed() -> None:
    """Looks for Lightning Fabric.

    Raises:
        ConfigurationError: If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import lightning_fabric  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(f"several processes need Lightning Fabric ({error}); {EXTRA}") from error


class JoinedCollectives(Collectives):
    """Exchanges tensors with the other processes of a group.

    Attributes:
        device: The device of this process.
    """

    def __init__(self, place: Place) -> None:
        """Joins the group, and waits for all others to.

        Raises:
            ProcessLostError: If they do not come.
        """
        self.rank, self.size = place.rank, place.size
        self._memory: SharedMemory | None = None
        try:
            self._join(place)
        except BaseException:  # Ctrl-C too: the next training would find the rest of this group and join it
            self.leave()
            raise

    def _join(self, place: Place) -> None:
        with _quiet(), _kept_environment():
            fabric = _fabric(place)
            self.device: torch.device = _guarded(lambda: (fabric.launch(), fabric.device)[1])
            # Waiting for work may take hours, and must not keep an accelerator busy.
            self._control: Any = distributed.new_group(backend="gloo", timeout=_WAIT_TIMEOUT)
        if place.device == "cpu" and place.local_size == place.size:
            self._memory = self._shared_memory()

    def _shared_memory(self) -> SharedMemory | None:
        """Returns the memory of all processes; None in all of them if one cannot open it: gloo is slower, and works."""
        folder = self.value_of_first(SharedMemory.create(self.size) if self.leads else None)
        if folder is None:
            return None
        memory = SharedMemory.opened(folder, self.rank, self.size, _STEP_TIMEOUT.total_seconds())
        if int(self.total(torch.tensor([float(memory is not None)]))) == self.size:
            return memory
        if memory is not None:
            memory.close()
        elif self.leads:
            SharedMemory.remove(folder)
        return None

    def average(self, tensor: Tensor) -> Tensor:
        """Returns the mean over the processes; see `Collectives`."""
        return self.total(tensor).div_(self.size)

    def average_with_gradient(self, tensor: Tensor) -> Tensor:
        """Returns the mean over the processes; see `Collectives`."""
        result: Tensor = _Average.apply(tensor, self)
        return result

    def total(self, tensor: Tensor) -> Tensor:
        """Returns the sum over the processes; see `Collectives`."""
        if self._memory is not None and self._memory.takes(tensor):
            return tensor.copy_(self._memory.gathered(tensor).sum(0))
        _guarded(lambda: distributed.all_reduce(tensor))
        return tensor

    def gathered(self, tensor: Tensor) -> Tensor:
        """Returns the tensors of all processes; see `Collectives`."""
        if self._memory is not None and self._memory.takes(tensor):
            return self._memory.gathered(tensor)
        every = [torch.empty_like(tensor) for _ in range(self.size)]
        _guarded(lambda: distributed.all_gather(every, tensor.contiguous()))
        return torch.stack(every)

    def of_first(self, tensor: Tensor) -> Tensor:
        """Returns the tensor of the first process; see `Collectives`."""
        _guarded(lambda: distributed.broadcast(tensor, src=0))
        return tensor

    def value_of_first(self, value: Any) -> Any:
        """Returns a value of the first process; see `Collectives`."""
        values = [value if self.leads else None]
        _guarded(lambda: distributed.broadcast_object_list(values, src=0, group=self._control))
        return values[0]

    def close_memory(self) -> None:
        """Gives the shared memory back, after which nothing can be exchanged; the first process removes its folder."""
        if self._memory is not None:
            self._memory.close()

    def leave(self) -> None:
        """Leaves the group."""
        self.close_memory()
        if distributed.is_initialized():
            distributed.destroy_process_group()


class _Average(torch.autograd.Function):
    """The mean over processes. The loss is the mean of theirs, and so is the gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, collectives: Collectives) -> Tensor:
        ctx.collectives = collectives
        return collectives.average(tensor.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.collectives.average(gradients[0].clone()), None


def _fabric(place: Place) -> Any:
    """Returns what opens the process group, with the backend that suits the device."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    class Environment(ClusterEnvironment):  # here, so that amc runs without Fabric
        """Processes that are there already."""

        creates_processes_externally = True
        main_address = place.address
        main_port = place.port

        @staticmethod
        def detect() -> bool:
            return True

        def world_size(self) -> int:
            return place.size

        def set_world_size(self, size: int) -> None:
            pass

        def global_rank(self) -> int:
            return place.rank

        def set_global_rank(self, rank: int) -> None:
            pass

        def local_rank(self) -> int:
            return place.local_rank

        def node_rank(self) -> int:
            return place.rank // place.local_size

    return Fabric(
        accelerator=place.device,
        devices=place.local_size,
        num_nodes=place.size // place.local_size,
        strategy=DDPStrategy(timeout=_STEP_TIMEOUT),
        plugins=[Environment()],
    )


def _guarded(exchange: Callable[[], _Value]) -> _Value:
    """Runs an exchange.

    Raises:
        ProcessLostError: If another process is gone.
    """
    try:
        return exchange()
    except RuntimeError as error:  # of torch.distributed's errors the base
        raise ProcessLostError(f"another process of the training is gone ({first_line(error)})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves Fabric's notices and warnings out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning_fabric  # noqa: F401  # which sets the level of its logger

        logger = logging.getLogger("lightning_fabric")
        before = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)


@contextmanager
def _kept_environment() -> Iterator[None]:
    """Restores the environment variables that Fabric sets, and how errors are printed, which PyTorch changes."""
    before, print_error = dict(os.environ), sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = print_error
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
