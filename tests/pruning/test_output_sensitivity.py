"""What an error in a layer's outputs counts is what it does to the network's output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.pruning.criteria.output_sensitivity import gather_sensitivities

IMAGES = 400


@pytest.fixture(scope="module")
def images():
    return torch.randn(IMAGES, 2, 4, 4, generator=torch.Generator().manual_seed(3))


def network(last=3):
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(20, last)).eval()


@pytest.mark.parametrize("centred", [True, False])
def test_it_is_the_squared_change_of_the_output_by_an_error_of_mean_square_one(images, centred):
    model = network()
    found = gather_sensitivities(model, ["0", "3"], images.split(100), centred=centred)
    weight = model[3].weight.detach().double()
    weight = weight - weight.mean(0) if centred else weight
    with torch.no_grad():
        active = (model[0](images) > 0).double().flatten(1)
    expected = (active * weight.square().sum(0)).reshape(IMAGES, 5, 4).sum(2).mean(0)
    torch.testing.assert_close(found["0"].importance, expected, rtol=0.15, atol=0.0)
    head = torch.full((3,), 1 - 1 / 3 if centred else 1.0, dtype=torch.float64)
    torch.testing.assert_close(found["3"].importance, head, rtol=0.15, atol=0.0)
    outputs = model(images).detach().double().square().mean(0)
    assert found["3"].energy == pytest.approx(float(found["3"].importance @ outputs), rel=1e-5)


def test_the_network_is_as_it_was_and_the_outcome_depends_on_the_seed_alone(images):
    model = network().train().requires_grad_(False)
    first, second = (gather_sensitivities(model, ["0"], [images], centred=True) for _ in range(2))
    assert torch.equal(first["0"].importance, second["0"].importance)
    assert model.training
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_networks_without_gradients_and_layers_without_influence_have_none(images):
    class Rounds(nn.Module):
        def forward(self, values):
            return torch.frexp(values).exponent

    assert gather_sensitivities(nn.Sequential(network(), Rounds()), ["0.0"], [images], centred=False) == {}
    model = network()
    model[3].weight.data.zero_()
    assert gather_sensitivities(model, ["0", "1"], [images], centred=True).keys() == set()


def test_of_large_images_few_run_and_few_together():
    sizes = []

    class Pools(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, images):
            sizes.append(len(images))
            return self.head(images.mean((2, 3)))

    gather_sensitivities(Pools(), ["head"], [torch.randn(80, 3, 224, 224)], centred=True)
    assert set(sizes) == {3}
    assert sum(sizes) == 57
    sizes.clear()
    gather_sensitivities(Pools(), ["head"], [torch.randn(600, 3, 4, 4)], centred=True)
    assert (set(sizes), sum(sizes)) == ({25}, 500)
