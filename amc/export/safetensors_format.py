"""A folder of safetensors weights and a JSON architecture, which `amc.load` reads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amc.errors import ConsentError, ExportError
from amc.export.formats import Exportable, Runner
from amc.runtime.call import call
from amc.runtime.inputs import tensors_in
from amc.storage.load import fill, load
from amc.storage.names import WEIGHTS
from amc.storage.save import save_network


class SafetensorsFormat:
    """Writes `model.safetensors` and `architecture.json` into a folder of their own."""

    default_name = "safetensors"
    tolerance = 1e-6  # of the outputs; the tensors themselves must be the same bit by bit

    def check(self, network: Exportable) -> None:
        """Checks that the architecture is known.

        Raises:
            ExportError: If it is not known how the network was cut.
        """
        if network.architecture is None:
            raise ExportError(
                "safetensors hold no shapes of their own: the architecture must be given; pass architecture="
                "result.architecture of amc.compress, or export the run's folder"
            )

    def write(self, network: Exportable, path: Path) -> None:
        """Writes the folder."""
        assert network.architecture is not None
        path.mkdir()
        save_network(path, network.model, network.architecture)

    def read(self, network: Exportable, path: Path) -> Runner:
        """Loads the network by `amc.load` and compares its tensors.

        Raises:
            ExportError: If a tensor is not what was written.
        """
        try:
            loaded = load(path)
        except ConsentError:  # for a class of the user's own, load into the network that it was written from
            loaded = copy.deepcopy(network.model)
            fill(loaded, path / WEIGHTS)
        written = network.model.state_dict()
        for name, tensor in loaded.state_dict().items():
            if name not in written or not torch.equal(tensor, written[name]):
                raise ExportError(
                    f"tensors must come back as they were written, but {name!r} does not; "
                    "give the architecture of this very network"
                )

        def run(example: Any) -> list[Tensor]:
            return tensors_in(call(loaded, example))

        return run


FORMAT = SafetensorsFormat()
