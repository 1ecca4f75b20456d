"""What outputs are worth against targets, by closed form; and which task targets speak of."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from amc.data.tasks import LOSSES, METRICS, TASKS, task_type
from amc.data.tasks.task_type import infer_task
from amc.errors import ConfigurationError, DataError, UnknownNameError


def figure(outputs, targets, *, task=None, metric=None, parts=1):
    meter = task_type(task, targets, metric=metric).meter()
    for part in zip(outputs.chunk(parts), targets.chunk(parts), strict=True):
        meter.add(*part)
    return meter.figure()


LOGITS = torch.tensor([[2.0, 1, 0], [0, 1, 2], [0, 3, 1], [0, 1, 3]])
CLASSES = torch.tensor([0, 1, 1, 2])
LABELS = torch.tensor([[1.0, 0], [1, 1], [0, 0], [1, 0]])
GIVEN = torch.tensor([[3.0, -1], [-1, 2], [1, -2], [4, -4]])  # right: 1, 3, 7; wrong: [2, 0]; missed: [1, 0]


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize(
    ("metric", "outputs", "targets", "expected"),
    [
        ("accuracy", LOGITS, CLASSES, 75.0),
        ("accuracy", LOGITS, functional.one_hot(CLASSES).float() * 0.8 + 0.2 / 3, 75.0),
        ("top5", LOGITS, CLASSES, 100.0),
        ("balanced_accuracy", LOGITS, CLASSES, 100 * (1 + 0.5 + 1) / 3),
        ("miou", LOGITS, CLASSES, 100 * (1 + 1 / 2 + 1 / 2) / 3),
        ("f1", GIVEN, LABELS, 100 * 2 * 3 / (2 * 3 + 1 + 1)),
        ("label_accuracy", GIVEN, LABELS, 75.0),
        ("r2", torch.tensor([1.0, 2, 3, 5]), torch.tensor([1.0, 2, 3.5, 4.5]), 100 * (1 - 0.5 / 7.25)),
        ("neg_mse", torch.tensor([[1.0], [2], [3], [5]]), torch.tensor([1.0, 2, 3.5, 4.5]), -0.125),
        ("neg_mae", torch.tensor([1.0, 2, 3, 5]), torch.tensor([[1.0], [2], [3.5], [4.5]]), -0.25),
    ],
)
def test_metrics_have_their_closed_form_however_the_split_is_cut_into_batches(
    metric, outputs, targets, expected, parts
):
    assert figure(outputs, targets, metric=metric, parts=parts) == pytest.approx(expected)


def test_every_metric_is_higher_for_better_outputs():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 7, (40,), generator=generator)
    numbers = torch.rand(40, 3, generator=generator)
    perfect = {"classification": (10 * functional.one_hot(classes, 7).float(), classes), "regression": (numbers,) * 2}
    perfect["multilabel"] = (20 * (numbers > 0.5).float() - 10, (numbers > 0.5).float())
    tasks = {"f1": "multilabel", "label_accuracy": "multilabel", "r2": "regression"}
    tasks |= {"neg_mse": "regression", "neg_mae": "regression"}
    for name in METRICS.names():
        task = tasks.get(name, "classification")
        outputs, targets = perfect[task]
        worse = outputs[torch.randperm(40, generator=generator)]
        assert figure(worse, targets, task=task, metric=name) < figure(outputs, targets, task=task, metric=name)


def test_masks_do_not_count_where_they_are_void_and_outputs_are_resized_to_them():
    small = torch.zeros(1, 2, 2, 2)
    small[:, 1, :, 0], small[:, 1, :, 1] = -5, 5  # the right half is of class 1
    mask = torch.zeros(1, 4, 4, dtype=torch.int64)
    mask[:, :, 2:] = 1
    mask[:, 0] = 255
    mask[:, 1] = -100
    assert figure(small, mask) == 100
    assert float(task_type(None, mask).loss_of(small, mask)) < 0.5
    wrong = mask.clone()
    wrong[0, 3, 0] = 1
    # of 8 pixels that count one is wrong: overlaps 3/4 and 4/5
    assert figure(small, wrong) == pytest.approx(100 * (3 / 4 + 4 / 5) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_masks_in_which_nothing_counts_cost_nothing_and_teach_nothing(smoothing):
    outputs = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = TASKS.get("segmentation").loss_of(outputs, torch.full((2, 4, 4), 255), smoothing)
    loss.backward()
    assert loss == 0
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))
    broken = torch.full((1, 3, 2, 2), float("inf"))
    assert TASKS.get("segmentation").loss_of(broken, torch.full((1, 2, 2), 255)).isnan()


@pytest.mark.parametrize(
    ("targets", "task"),
    [
        (torch.tensor([0, 2, 1]), "classification"),
        (torch.tensor([0.0, 2.0, 1.0]), "classification"),
        (functional.one_hot(torch.tensor([0, 2, 1])), "classification"),
        (torch.tensor([[0.2, 0.8], [1.0, 0.0]]), "classification"),
        (torch.rand(64, generator=torch.Generator().manual_seed(0)), "regression"),
        (torch.tensor([[0.2], [1.0]]), "regression"),
        (torch.tensor([[0.2, 3.0], [1.0, 0.0]]), "regression"),
        (torch.tensor([[0, 1, 1], [0, 0, 0]]), "multilabel"),
        (torch.tensor([[False, True, True], [False, False, True]]), "multilabel"),
        (torch.zeros(2, 4, 4, dtype=torch.int64), "segmentation"),
        (torch.zeros(2, 1, 4, 4), "multilabel"),
        (torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)), "regression"),
    ],
)
def test_targets_tell_the_task(targets, task):
    assert infer_task(targets) == task


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "message"),
    [
        ("classification", LOGITS, torch.tensor([0.5, 1, 1, 2]), "whole numbers, not 0.5; .* the task 'regression'"),
        ("classification", LOGITS, CLASSES + 1, "class 3, but the network has 3 outputs, for the classes 0 to 2"),
        ("classification", LOGITS[:, :1], CLASSES, "1 output: give the task 'multilabel' .*, or 'regression'"),
        ("classification", LOGITS, CLASSES - 9, "not -[0-9]+; number them from 0, or give the task 'regression'"),
        ("classification", LOGITS, CLASSES - 1, "numbers from 0, not -1"),
        ("classification", LOGITS, torch.zeros(4, 5), r"a share of every class, \(N, 3\), not \(4, 5\)"),
        ("classification", torch.zeros(4, 3, 2), CLASSES, r"logits \(N, classes\), not \(4, 3, 2\)"),
        ("segmentation", LOGITS, CLASSES, r"must return \(N, classes, H, W\) for masks"),
        ("segmentation", torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), 3), "class 3, but the network has 2 outputs"),
        ("regression", torch.zeros(4, 3), torch.rand(4), r"returns \(4, 3\) for targets of shape \(4,\)"),
        ("multilabel", torch.zeros(4, 3), torch.zeros(4, 2), "as many numbers as the targets have"),
    ],
)
def test_outputs_that_do_not_fit_the_targets_are_refused(task, outputs, targets, message):
    with pytest.raises(DataError, match=message):
        TASKS.get(task).loss_of(outputs, targets)


def test_one_output_is_not_compared_with_the_targets_of_all_others():
    outputs, targets = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 2.0, 3.0])
    assert float(TASKS.get("regression").loss_of(outputs, targets)) == 0


@pytest.mark.parametrize("name", TASKS.names())
def test_a_network_is_nearest_to_its_teacher_when_it_is_the_teacher(name):
    generator = torch.Generator().manual_seed(0)
    teacher, other = torch.randn(2, 6, 3, 4, 4, generator=generator)
    task = TASKS.get(name)
    if name == "classification":
        teacher, other = teacher[..., 0, 0], other[..., 0, 0]
    teacher.requires_grad_(True)
    loss = task.distillation(teacher, teacher.detach(), 2.0)
    (gradient,) = torch.autograd.grad(loss, teacher)
    assert float(gradient.abs().max()) < 1e-6
    assert float(task.distillation(other, teacher.detach(), 2.0)) > float(loss.detach())


def test_losses_and_metrics_may_be_functions_and_objects_with_a_state():
    class Counter:
        """As torchmetrics has them."""

        def __call__(self, outputs, targets):
            raise AssertionError("a batch alone says nothing of the split")

        def reset(self):
            self.hits = self.all = 0

        def update(self, outputs, targets):
            self.hits += int((outputs.argmax(1) == targets).sum())
            self.all += len(targets)

        def compute(self):
            return torch.tensor(self.hits / self.all)

    def median_error(outputs, targets):
        return -(outputs - targets).abs().median()

    assert figure(LOGITS, CLASSES, metric=Counter(), parts=2) == 0.75
    numbers = torch.tensor([1.0, 2, 9, 4, 7.5])
    assert figure(numbers, torch.zeros(5), task="regression", metric=median_error, parts=2) == -4
    task = task_type("regression", numbers, loss=lambda outputs, targets: (outputs - targets).max(), metric="neg_mae")
    assert float(task.loss_of(numbers, torch.ones(5))) == 8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "regresion"}, UnknownNameError, "did you mean 'regression'"),
        ({"loss": "mes"}, UnknownNameError, "did you mean 'mse'"),
        ({"metric": "iou"}, UnknownNameError, "did you mean 'miou'"),
        ({"loss": 3}, ConfigurationError, "the loss must be a name or a function"),
    ],
)
def test_names_that_do_not_exist_are_told_the_near_ones(options, error, message):
    with pytest.raises(error, match=message):
        task_type(options.pop("name", None), CLASSES, **options)


def test_a_metric_that_is_no_number_is_refused():
    with pytest.raises(ConfigurationError, match="<lambda> must return a number, higher is better, not 'good'"):
        figure(LOGITS, CLASSES, metric=lambda outputs, targets: "good")


def test_cross_entropy_of_shares_is_that_of_their_mean():
    loss = LOSSES.get("cross_entropy")
    shares = torch.tensor([[0.25, 0.75]])
    assert float(loss(torch.zeros(1, 2), shares)) == pytest.approx(math.log(2))
