"""Tables of places that a state dict leaves out are cut with a stream, and are there again in a loaded network."""

from __future__ import annotations

import torch
from torch import nn

import amc


def images(count):
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, 3, 16, 16, generator=generator), torch.arange(count) % 4


class Placed(nn.Module):
    """Patches with sines and cosines of their places, which the state dict leaves out, and a branch beside them."""

    def __init__(self):
        super().__init__()
        self.patch, self.wide, self.narrow = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 32), nn.Linear(32, 16)
        angles = torch.arange(64)[:, None] * 10000 ** (-torch.arange(0, 16, 2) / 16)
        table = torch.stack((angles.sin(), angles.cos()), 2).flatten(1)
        self.register_buffer("places", table, persistent=False)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.places[: x.shape[1]]
        return self.head((x + self.narrow(torch.relu(self.wide(x)))).mean(1))


def test_places_outside_the_state_dict_are_cut_with_the_channels_they_are_added_to(tmp_path):
    torch.manual_seed(0)
    network = Placed()
    options = {
        "agent": "uniform",
        "finetune": amc.FineTuneConfig(epochs=1, batch_size=20),
        "pruning": amc.PruningConfig(residual=True),
        "search": amc.SearchConfig(untrained=True),
    }
    result = amc.compress(network, (images(80), images(40)), amc.Budget(flops=0.3), device="cpu", **options)
    width = result.model.patch.out_channels
    assert width < 16
    columns = [network.places[:, channel] for channel in range(16)]
    kept = [any(torch.equal(column, other) for other in columns) for column in result.model.places.T]
    assert kept == [True] * width
    result.save(tmp_path / "saved")
    loaded, inputs = amc.load(tmp_path / "saved", model=Placed()), images(4)[0]
    assert torch.equal(loaded.places, result.model.places)
    torch.testing.assert_close(loaded(inputs), result.model.eval()(inputs))
