"""Each penalty against the formula of its paper, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import integrate
from torch import nn
from torch.nn import functional

from amc.errors import ConfigurationError
from amc.training import FineTuneConfig, fine_tune
from amc.training.penalties.auto_pruner import AutoPruner, code_of, pooled_mean, ratio_loss, ratio_weight
from amc.training.penalties.decay import L1Decay, L2Decay
from amc.training.penalties.hard_concrete import HardConcrete, open_probability, sampled_gates, settled_gates
from amc.training.penalties.slimming import BatchNormL1
from amc.training.penalties.structure_selection import StructureSelection
from amc.training.penalties.variational_dropout import VariationalDropout, log_alpha_of, negative_divergence
from amc.training.terms import Batch

QUICK = FineTuneConfig(epochs=4, batch_size=20, dtype="float32", distillation=0.0, keep="last", learning_rate=0.05)
BATCH = Batch(torch.zeros(1), torch.zeros(1))


def tensors(*values):
    return torch.tensor(values, dtype=torch.float64)


# Network Slimming


def test_slimming_adds_the_sign_of_the_scales_to_their_gradients(training):
    model = nn.Sequential(nn.BatchNorm1d(2))
    model[0].weight.data = torch.tensor([0.5, -0.1])
    penalty = BatchNormL1(strength=0.1)
    penalty.attach(training(model))
    loss = penalty.loss(BATCH)
    assert float(loss.detach()) == pytest.approx(0.06)
    (loss + 0.2 * model[0].weight.sum()).backward()
    torch.testing.assert_close(model[0].weight.grad, torch.tensor([0.3, 0.1]))


@pytest.mark.parametrize("decay", [True, False])
def test_the_weight_decay_acts_on_the_scales_only_if_asked(training, decay):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    attached = training(model, decay=0.5)
    BatchNormL1(decay=decay).attach(attached)
    decays = {id(p): group["weight_decay"] for group in attached.optimizer.param_groups for p in group["params"]}
    assert decays[id(model[1].weight)] == (0.5 if decay else 0.0)
    assert decays[id(model[0].weight)] == decays[id(model[1].bias)] == 0.5
    assert len(decays) == 4


def test_slimming_shrinks_scales(make, data):
    sums = []
    for strength in (0.0, 0.5):
        model = make()
        fine_tune(model, data, replace(QUICK, penalties=(f"slimming:strength={strength}",)), device="cpu")
        sums.append(float(model.body_norm.weight.detach().abs().sum()))
    assert sums[1] < 0.8 * sums[0]


# L1 and L2 on weights


def test_decays_are_sums_over_weights_without_biases(training):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor([[1.0, -2.0], [0.5, 0.0]])
    model[1].weight.data = torch.tensor([[3.0, -1.0]])
    for kind, patterns, expected in (
        (L1Decay, ("*",), 7.5),
        (L1Decay, ("0",), 3.5),
        (L2Decay, ("*",), (1 + 4 + 0.25 + 9 + 1) / 2),
    ):
        penalty = kind(strength=0.2, layers=patterns)
        penalty.attach(training(model))
        assert float(penalty.loss(BATCH).detach()) == pytest.approx(0.2 * expected)


def test_l2_does_what_the_weight_decay_of_the_optimiser_does(data):
    def trained(**options):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12, bias=False), nn.ReLU(), nn.Linear(12, 10, bias=False))
        fine_tune(model, data, replace(QUICK, **options), device="cpu")
        return model[1].weight.detach()

    decayed, penalised = trained(weight_decay=0.05), trained(weight_decay=0.0, penalties=("l2:strength=0.05",))
    torch.testing.assert_close(decayed, penalised, rtol=1e-4, atol=1e-6)
    assert float((decayed - trained(weight_decay=0.0)).abs().max()) > 0.01


# Sparse Structure Selection


def test_factors_take_the_step_of_the_accelerated_proximal_gradient(training):
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    penalty = StructureSelection(strength=1.0, momentum=0.9)
    penalty.attach(training(model))
    factor = penalty._factors["1"]
    factor.data.fill_(0.5)
    factor.grad = torch.tensor([0.2])
    penalty.after_step(rate=0.1)
    # z = S(.5 - .02, .1) = .38; v = .38 - .5 + .9 * 0 = -.12; f = .38 + .9 * -.12 = .272
    assert float(factor.detach()) == pytest.approx(0.272)
    assert float(penalty._velocities["1"]) == pytest.approx(-0.12)
    factor.grad = torch.tensor([-0.5])
    penalty.after_step(rate=0.1)
    # z = S(.272 + .05, .1) = .222; v = .222 - .272 + .9 * -.12 = -.158; f = .222 + .9 * -.158 = .0798
    assert float(factor.detach()) == pytest.approx(0.0798, abs=1e-6)


def test_factors_reach_exactly_zero_and_never_below(training):
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3))
    penalty = StructureSelection(strength=5.0)
    penalty.attach(training(model))
    for _ in range(20):
        penalty._factors["1"].grad = torch.zeros(3)
        penalty.after_step(rate=0.1)
    penalty.detach()
    assert model[1].weight.detach().tolist() == model[1].bias.detach().tolist() == [0.0, 0.0, 0.0]


def test_factors_are_folded_so_that_the_network_computes_the_same(make, training):
    model, images = make().eval(), torch.rand(4, 1, 8, 8)
    penalty = StructureSelection()
    penalty.attach(training(model))
    with torch.no_grad():
        for factor in penalty._factors.values():
            factor.copy_(torch.rand(len(factor)))
        gated = model(images)
        penalty.detach()
        torch.testing.assert_close(model(images), gated)


def test_a_branch_whose_layer_has_a_factor_of_zero_is_the_identity(make, training):
    model, images = make().eval(), torch.rand(4, 1, 8, 8)
    penalty = StructureSelection(unit="layer", layers=("body_norm",))
    penalty.attach(training(model))
    assert {name: len(factor) for name, factor in penalty._factors.items()} == {"body_norm": 1}
    with torch.no_grad():
        penalty._factors["body_norm"].zero_()
    penalty.detach()
    with torch.no_grad():
        stream = model.stem_norm(model.stem(images)).relu()
        torch.testing.assert_close(model(images), model.head(stream.mean((2, 3))))


# Hard concrete gates


def test_gates_are_open_with_the_probability_of_the_closed_form():
    log_alpha = tensors(-3, 0, 2)
    torch.testing.assert_close(open_probability(log_alpha), tensors(0.1976, 0.8318, 0.9734), atol=1e-4, rtol=0)
    generator = torch.Generator().manual_seed(0)
    drawn = sampled_gates(log_alpha, torch.rand(200_000, 3, generator=generator, dtype=torch.float64))
    torch.testing.assert_close((drawn > 0).double().mean(0), open_probability(log_alpha), atol=5e-3, rtol=0)
    assert float(drawn.min()) == 0.0
    assert float(drawn.max()) == 1.0


def test_settled_gates_have_no_temperature():
    torch.testing.assert_close(settled_gates(tensors(-3, 0, 2)), tensors(0, 0.5, 0.9570), atol=1e-4, rtol=0)
    border = math.log((1 / 12) / (1 - 1 / 12))  # where sigmoid * 1.2 - 0.1 is zero
    assert border == pytest.approx(-2.398, abs=1e-3)
    assert float(settled_gates(tensors(border - 0.01))) == 0.0
    assert float(settled_gates(tensors(border + 0.01))) > 0.0


def test_the_penalty_is_the_expected_number_of_weights(make, training):
    model = make()
    penalty = HardConcrete(strength=2.0, drop_rate=0.5)
    penalty.attach(training(model, images=100))
    weights = 6 * 1 * 9 + 6 * 6 * 9  # those before the two batch norms
    assert float(penalty.loss(BATCH).detach()) == pytest.approx(2 / 100 * 0.8318 * weights, rel=1e-4)


def test_gates_are_drawn_once_for_all_parts_of_a_batch(make, training):
    torch.manual_seed(0)
    model, images = make(), torch.rand(5, 1, 8, 8)
    penalty = HardConcrete(drop_rate=0.5, layers=("body_norm",))
    penalty.attach(training(model))
    seen = []
    model.body_norm.register_forward_hook(lambda module, inputs, output: seen.append((output == 0).all((0, 2, 3))))
    for _ in range(8):
        for _ in range(2):
            (model(images).sum() + penalty.loss(BATCH)).backward()
        penalty.after_step(0.1)
    assert all(torch.equal(first, second) for first, second in zip(seen[::2], seen[1::2], strict=True))
    assert len({tuple(closed.tolist()) for closed in seen}) > 1


def test_gates_close_under_a_strong_penalty_and_are_zero_in_the_network(make, data):
    closed = []
    for strength in (0.0, 20.0):
        model = make()
        penalty = f"l0:strength={strength};learning_rate=0.2;layers=[body_norm]"
        fine_tune(model, data, replace(QUICK, epochs=8, penalties=(penalty,)), device="cpu")
        zero = model.body_norm.weight == 0
        assert torch.equal(zero, model.body_norm.bias == 0)
        closed.append(int(zero.sum()))
    assert closed == [0, 6]


# Variational dropout


def test_the_divergence_is_that_of_the_paper():
    expected = tensors(-3.1367, -0.43124, -0.02542)
    torch.testing.assert_close(negative_divergence(tensors(-5, 0, 3)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 2.0])
def test_the_divergence_is_close_to_the_integral(log_alpha):
    alpha = math.exp(log_alpha)

    def log_noise(noise):  # E log |1 + sqrt(alpha) * noise|, whose logarithm has a pole
        return math.exp(-(noise**2) / 2) / math.sqrt(2 * math.pi) * math.log(abs(1 + math.sqrt(alpha) * noise))

    pole = -1 / math.sqrt(alpha)
    expected, _ = integrate.quad(log_noise, -30, 30, points=[pole], limit=400)
    exact = 0.5 * log_alpha - expected  # up to a constant, which the approximation sets so that it ends at zero
    at_large, _ = integrate.quad(
        lambda noise: math.exp(-(noise**2) / 2) / math.sqrt(2 * math.pi) * math.log(abs(noise)), -30, 30, points=[0]
    )
    constant = -at_large  # of alpha to infinity
    assert float(negative_divergence(tensors(log_alpha))) == pytest.approx(exact - constant, abs=0.02)


def test_outputs_have_the_mean_and_the_variance_of_the_noisy_weights(training):
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 2.0]])
    penalty = VariationalDropout()
    penalty.attach(training(model))
    penalty._variances["0"].data = torch.tensor([[math.log(0.25), 0.0]])
    torch.manual_seed(0)
    outputs = model(torch.tensor([[3.0, 1.0]]).expand(100_000, 2)).detach()
    assert float(outputs.mean()) == pytest.approx(5, abs=0.03)  # 3 * 1 + 1 * 2
    assert float(outputs.var()) == pytest.approx(3.25, abs=0.05)  # 9 * 0.25 + 1 * 1


def test_weights_that_bear_much_noise_go_and_count_for_nothing_in_evaluation(training):
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))
    penalty = VariationalDropout(threshold=3.0)
    penalty.attach(training(model))
    noisy = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    penalty._variances["0"].data.masked_fill_(noisy, 2.0)
    assert torch.equal(log_alpha_of(model[0].weight, penalty._variances["0"]) > 3, noisy)
    images = torch.rand(3, 1, 6, 6)
    model.eval()
    expected = functional.conv2d(images, model[0].weight * ~noisy, model[0].bias, padding=1)
    torch.testing.assert_close(model(images), expected)
    penalty.detach()
    assert torch.equal(model[0].weight == 0, noisy)
    torch.testing.assert_close(model(images), expected)


def test_the_divergence_counts_from_its_start_and_in_full_from_there(training):
    penalty = VariationalDropout(start=0.25, full=0.75)
    penalty.attach(training(nn.Sequential(nn.Linear(2, 2)), steps=4, epochs=2))
    values = [float(penalty.loss(replace(BATCH, step=step)).detach()) for step in range(8)]
    assert values[:3] == [0.0, 0.0, 0.0]
    assert values[4] == pytest.approx(values[6] / 2)
    assert values[6] == values[7] > 0


def test_the_divergence_may_count_in_full_from_its_start(training):
    penalty = VariationalDropout(start=0.5, full=0.5)
    penalty.attach(training(nn.Sequential(nn.Linear(2, 2)), steps=4, epochs=2))
    values = [float(penalty.loss(replace(BATCH, step=step)).detach()) for step in range(8)]
    assert values[:4] == [0.0] * 4
    assert values[4] == values[7] > 0


def test_layers_whose_noise_cannot_be_computed_are_named(training):
    model = nn.Sequential(nn.ConvTranspose2d(1, 2, 3))
    with pytest.raises(ConfigurationError, match="and 0 are none"):
        VariationalDropout().attach(training(model))


# AutoPruner


def test_codes_are_scaled_sigmoids():
    torch.testing.assert_close(code_of(tensors(2, -3), 0.1), torch.tensor([0.550, 0.426]), atol=1e-3, rtol=0)
    torch.testing.assert_close(code_of(tensors(2, -3), 2.0), torch.tensor([0.982, 0.002]), atol=1e-3, rtol=0)


def test_the_ratio_loss_pulls_to_the_share_to_keep():
    code = tensors(1, 1, 0, 1)
    assert ratio_weight(code, 0.5) == pytest.approx(25)
    assert float(ratio_loss(code, 0.5, 25)) == pytest.approx(1.5625)


def test_coders_read_the_pooled_mean_of_the_batch_and_start_as_the_authors_say(training):
    outputs = torch.arange(32.0).view(2, 1, 4, 4)
    assert pooled_mean(outputs).tolist() == [[13.0, 15.0, 21.0, 23.0]]  # the largest of each 2x2 of the mean
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8))
    penalty = AutoPruner()
    torch.manual_seed(0)
    penalty.attach(replace(training(model), example=torch.rand(2, 1, 64, 64)))
    coder = penalty._coders["1"]
    assert tuple(coder.weight.shape) == (8, 8 * 32 * 32)
    assert float(coder.weight.detach().std()) == pytest.approx(10 * math.sqrt(2 / (8 * 32 * 32)), rel=0.02)
    assert 10 * math.sqrt(2 / (8 * 2**2)) == pytest.approx(2.5)


@pytest.mark.parametrize("keep_ratio", [0.5, 1 / 3])
def test_the_share_of_open_codes_becomes_what_is_asked_for(make, data, keep_ratio):
    model = make()
    penalty = f"autopruner:keep_ratio={keep_ratio};last_scale=10;learning_rate=0.02"
    fine_tune(model, data, replace(QUICK, epochs=20, penalties=(penalty,)), device="cpu")
    for norm in (model.stem_norm, model.body_norm):
        open_channels = norm.weight != 0
        assert torch.equal(open_channels, norm.bias != 0)
        assert abs(int(open_channels.sum()) - 6 * keep_ratio) <= 1
