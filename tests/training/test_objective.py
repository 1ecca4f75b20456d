"""The objective: a sum of terms, equal to the bit to the loss written out, attached and detached whatever happens."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.data import DataConfig, load_data
from amc.data.tasks.task_type import soft_divergence
from amc.errors import ModelError
from amc.runtime.layout import lay_out
from amc.training import FineTuneConfig, fine_tune
from amc.training.features import FeatureDistillation
from amc.training.objective import Objective, objective_of
from amc.training.terms import Batch, Term

QUICK = FineTuneConfig(epochs=2, batch_size=20, learning_rate=0.05, dtype="float32", distillation=0.0, keep="last")


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=100, test_images=50))


class TwoHeads(nn.Module):
    """A small residual network that returns the outputs of auxiliary heads while it trains."""

    def __init__(self, width, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.inner, self.outer = nn.Conv2d(8, width, 3, padding=1), nn.Conv2d(width, 8, 3, padding=1)
            self.heads = nn.ModuleList(nn.Linear(8, 10) for _ in range(3))

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = x + self.outer(self.inner(x).relu())
        outputs = tuple(head(x.mean((2, 3))) for head in self.heads)
        return outputs if self.training else outputs[0]


def plain_training(model, teacher, data, config, seed):
    """The training loop and the loss written out, as they were before there were terms; returns the losses."""
    features = None
    few = data.search.take(range(2)).inputs()
    teacher = teacher.eval()
    channels_last = all(lay_out(network, few) for network in (model, teacher))
    if config.feature_distillation:
        features = FeatureDistillation(model, teacher, few)
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": config.weight_decay},
        ],
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
    )
    generator = torch.Generator().manual_seed(seed)
    steps, done, losses = len(data.train) // config.batch_size * config.epochs, 0, []
    rising = config.warmup * steps
    for _ in range(config.epochs):
        model.train()
        for images, targets in data.train.batches(config.batch_size, generator=generator, channels_last=channels_last):
            share = (done - rising) / max(1.0, steps - 1 - rising)
            low, high, progress = (1 / 25, 1.0, done / rising) if done < rising else (1.0, 1e-4, min(1.0, share))
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (high + (low - high) * (1 + math.cos(math.pi * progress)) / 2)
            with torch.no_grad():
                wanted = teacher(images)
            if features is not None:
                with features.watching():
                    teacher(images)
                    outputs = model(images)
            else:
                outputs = model(images)
            smoothing = config.label_smoothing
            loss = functional.cross_entropy(outputs[0], targets, label_smoothing=smoothing)
            if config.distillation:
                soft = soft_divergence(outputs[0], wanted, config.temperature)
                loss = (1 - config.distillation) * loss + config.distillation * soft
            for extra in outputs[1:]:
                loss = loss + 0.3 * functional.cross_entropy(extra, targets, label_smoothing=smoothing)
            if features is not None:
                loss = loss + config.feature_distillation * features.loss()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            done += 1
    return losses


class Listening(Term):
    """Adds nothing, and notes what happens."""

    def __init__(self):
        self.heard, self.rates = [], []

    def attach(self, training):
        self.heard.append("attach")
        self.training = training

    def loss(self, batch):
        self.heard.append("loss")

    def after_step(self, rate):
        self.heard.append("step")
        self.rates.append(rate)

    def detach(self):
        self.heard.append("detach")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1},
        {"distillation": 0.3, "temperature": 2.0},
        {"distillation": 0.5, "feature_distillation": 2.0, "label_smoothing": 0.1},
        {"feature_distillation": 2.0},
    ],
)
def test_the_sum_of_terms_is_the_loss_written_out_to_the_bit(data, options):
    config = replace(QUICK, **options)
    teacher = TwoHeads(6, seed=1).eval()
    ours, theirs = TwoHeads(4, seed=0), TwoHeads(4, seed=0)
    result = fine_tune(ours, data, config, teacher=teacher, seed=3, device="cpu")
    losses = plain_training(theirs, copy.deepcopy(teacher), data, config, seed=3)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    steps = len(losses) // config.epochs
    means = [sum(losses[at : at + steps]) / steps for at in range(0, len(losses), steps)]
    assert [record.loss for record in result.epochs] == pytest.approx(means, rel=1e-6)


def test_terms_are_attached_once_and_act_after_every_step(data):
    term = Listening()
    fine_tune(TwoHeads(4, seed=0), data, QUICK, terms=[term], device="cpu")
    steps = term.training.steps * term.training.epochs
    assert term.heard == ["attach", *["loss", "step"] * steps, "detach"]
    assert term.training.images == len(data.train)
    assert 0.9 * QUICK.learning_rate < max(term.rates) <= QUICK.learning_rate


def test_terms_are_detached_where_a_training_fails(data):
    class Failing(Listening):
        def loss(self, batch):
            raise ModelError("enough")

    terms = [Listening(), Failing()]
    with pytest.raises(ModelError, match="enough"):
        fine_tune(TwoHeads(4, seed=0), data, QUICK, terms=terms, device="cpu")
    assert [term.heard for term in terms] == [["attach", "loss", "detach"], ["attach", "detach"]]


def test_a_term_of_ones_own_is_trained_by(data):
    class Pull(Term):
        def attach(self, training):
            self.bias = training.model.heads[0].bias

        def loss(self, batch):
            return 10 * (self.bias - 2).square().sum()

    model = TwoHeads(4, seed=0)
    fine_tune(model, data, QUICK, terms=[Pull()], device="cpu")
    assert (model.heads[0].bias.detach() - 2).abs().max() < 0.1


def loss_of(output, targets, config, teacher=None):
    objective = objective_of(config, has_teacher=teacher is not None)
    return objective.loss(Batch(targets, output, teacher))


def test_loss_of_labels_alone_is_the_cross_entropy():
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    config = FineTuneConfig(label_smoothing=0.1)
    expected = functional.cross_entropy(logits, targets, label_smoothing=0.1)
    assert torch.equal(loss_of(logits, targets, config), expected)
    torch.testing.assert_close(loss_of((logits, None, logits), targets, config), 1.3 * expected)


def test_distillation_is_the_divergence_of_softened_outputs():
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    p, q = torch.softmax(teacher / 2, 1), torch.softmax(student / 2, 1)
    expected = 4 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(soft_divergence(student, teacher, 2.0), expected)
    assert float(soft_divergence(teacher, teacher, 2.0)) == pytest.approx(0, abs=1e-6)
    config = FineTuneConfig(distillation=0.25, temperature=2.0)
    targets = torch.tensor([0, 1, 2, 0])
    mixed = 0.75 * functional.cross_entropy(student, targets) + 0.25 * expected
    torch.testing.assert_close(loss_of(student, targets, config, teacher), mixed)


def test_the_dense_network_runs_only_where_a_term_asks_for_it():
    assert not objective_of(FineTuneConfig(distillation=0.5)).needs_teacher
    assert not objective_of(FineTuneConfig(distillation=0.0), has_teacher=True).needs_teacher
    assert objective_of(FineTuneConfig(distillation=0.5), has_teacher=True).needs_teacher
    assert not Objective([Term()]).needs_teacher


def test_output_that_is_no_logits_is_named():
    with pytest.raises(ModelError, match=r"must return a tensor, .* not a dict with out; for other outputs"):
        loss_of({"out": 1}, torch.tensor([0]), FineTuneConfig())
