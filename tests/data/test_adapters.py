"""The user's own data as roles."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from amc.data import DataConfig, DataRoles, as_source, load_data, roles_from_loaders, roles_of_pair
from amc.errors import DataError


class Numbers(Dataset):
    """Item i is an image of the value i, read anew each time."""

    def __init__(self, count, start=0):
        self.count, self.start, self.reads = count, start, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        self.reads += 1
        return torch.full((1, 1, 1), float(self.start + index)), index % 3


class Renamed(Dataset):
    """The items of another data set, of a type of its own."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter((torch.full((1, 1, 1), float(index)), index % 3) for index in range(60))


def tensors(count, start=0):
    return torch.arange(start, start + count).float().view(-1, 1, 1, 1), torch.arange(count) % 3


def values(source, **options):
    return [value for images, _ in source.batches(7, **options) for value in images.flatten().tolist()]


MAKERS = {
    "pair of tensors": lambda: tensors(60),
    "tensor data set": lambda: TensorDataset(*tensors(60)),
    "data set": lambda: Numbers(60),
    "loader in order": lambda: DataLoader(Numbers(60), batch_size=8),
    "shuffled loader": lambda: DataLoader(Numbers(60), batch_size=8, shuffle=True),
    "loader of tensors": lambda: DataLoader(TensorDataset(*tensors(60)), batch_size=8, shuffle=True),
    "loader with a sampler": lambda: DataLoader(
        Numbers(60), batch_size=8, sampler=WeightedRandomSampler([1.0] * 60, 60, replacement=False)
    ),
    "loader of a stream": lambda: DataLoader(Stream(), batch_size=8),
    "weighted loader": lambda: DataLoader(
        Numbers(60), batch_size=8, sampler=WeightedRandomSampler([1.0, 3.0] * 30, 90)
    ),
    "weighted loader of tensors": lambda: DataLoader(
        TensorDataset(*tensors(60)), batch_size=8, sampler=WeightedRandomSampler([1.0] * 60, 60)
    ),
    "loader that shows items twice": lambda: DataLoader(Numbers(60), batch_size=8, sampler=[*range(60), *range(60)]),
    "subset that names items twice": lambda: DataLoader(Subset(Numbers(60), [*range(60), *range(60)]), batch_size=8),
    "one data set twice": lambda: ConcatDataset([Numbers(60)] * 2),
    "subsets that share items": lambda: ConcatDataset(list(map(Subset, [Numbers(60)] * 2, (range(60), range(20, 50))))),
    "loader without batches": lambda: DataLoader(Numbers(60), batch_size=None),
    "drawing loader without batches": lambda: DataLoader(
        Numbers(60), batch_size=None, sampler=WeightedRandomSampler([1.0] * 60, 90)
    ),
    "stream of items": Stream,
    "loader of a stream without batches": lambda: DataLoader(Stream(), batch_size=None),
    "arrays": lambda: tuple(part.numpy() for part in tensors(60)),
    "list of items": lambda: [(torch.full((1, 1, 1), float(index)), index % 3) for index in range(60)],
    "list of batches": lambda: list(zip(*(part.split(8) for part in tensors(60)), strict=True)),
    "iterator": lambda: iter(list(zip(*(part.split(8) for part in tensors(60)), strict=True))),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
def test_every_kind_of_data_is_split_into_disjoint_roles(maker):
    roles = roles_from_loaders(maker(), tensors(5, start=100), search_images=12, calibration_images=20)
    assert isinstance(roles, DataRoles)
    train, search, calibration = (values(split) for split in (roles.train, roles.search, roles.calibration))
    assert (len(search), len(calibration)) == (12, 20)
    assert sorted({*train, *search}) == list(range(60))
    assert not set(train) & set(search)
    shown = {value for seed in range(5) for value in values(roles.train, generator=torch.Generator().manual_seed(seed))}
    assert not shown & set(search)
    assert set(calibration) <= set(train)
    assert values(roles.test) == [100, 101, 102, 103, 104]
    assert (roles.num_classes, roles.input_shape) == (3, (1, 1, 1))


class Shifted(TensorDataset):
    """Changes its items, as data sets that augment do."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image + 100, target


def shifting(items):
    images, targets = default_collate(items)
    return images + 100, targets


@pytest.mark.parametrize(
    "data",
    [
        Shifted(*tensors(20)),
        DataLoader(Shifted(*tensors(20)), batch_size=4),
        DataLoader(TensorDataset(*tensors(20)), batch_size=4, collate_fn=shifting),
    ],
    ids=["data set", "loader", "collate_fn"],
)
def test_what_a_data_set_or_a_loader_does_to_its_items_is_kept(data):
    assert sorted(values(as_source(data))) == list(range(100, 120))


class Yes(Numbers):
    """Says of each item whether its number is even."""

    def __getitem__(self, index):
        return super().__getitem__(index)[0], index % 2 == 0


@pytest.mark.parametrize("data", [(tensors(20)[0], tensors(20)[1] > 0), Yes(20), list(Yes(20))])
def test_true_and_false_are_two_classes(data):
    roles = roles_from_loaders(data, data, search_images=8)
    assert (roles.num_classes, roles.task.name) == (2, "classification")
    assert {targets.dtype for split in (roles.train, roles.search) for _, targets in split.batches(7)} == {torch.int64}


SUBSETS = {
    "sampler": lambda items: {"sampler": SubsetRandomSampler(items), "batch_size": 4},
    "batch sampler": lambda items: {"batch_sampler": BatchSampler(SubsetRandomSampler(items), 4, drop_last=False)},
    "part in order": lambda items: {"sampler": SequentialSampler(items), "batch_size": 4},
}


@pytest.mark.parametrize("options", SUBSETS.values(), ids=SUBSETS.keys())
def test_a_loader_of_a_part_of_a_data_set_gives_no_more_than_that_part(options):
    loader = DataLoader(Numbers(60), **options(range(20)))
    assert sorted(values(as_source(loader))) == list(range(20))


def test_a_loader_that_draws_with_replacement_goes_on_drawing_as_it_does():
    loader = DataLoader(Numbers(60), batch_size=8, sampler=RandomSampler(range(60), replacement=True, num_samples=21))
    source = as_source(loader)
    assert len(source) == 21
    first, second = (values(source, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert len(first) == len(second) == 21
    assert set(first) != set(second)


def test_weights_of_a_sampler_hold_for_what_is_left_to_train_on():
    weights = [0.0 if index < 20 else 1.0 if index < 40 else 9.0 for index in range(60)]
    loader = DataLoader(Numbers(60), batch_size=8, sampler=WeightedRandomSampler(weights, 600))
    roles = roles_from_loaders(loader, tensors(5), search_images=8)
    drawn = torch.tensor(values(roles.train, generator=torch.Generator().manual_seed(0)))
    kept = 40 - len([value for value in values(roles.search) if value >= 20])
    assert len(roles.train) == round(600 * kept / 40)
    assert int(drawn.min()) >= 20
    assert 0.85 < float((drawn >= 40).float().mean()) < 0.95


class Setting:
    """Notes that it was called, in a process of its own."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, worker):
        (self.folder / f"worker{worker}").touch()


def test_what_a_loader_says_of_its_workers_and_batches_holds(tmp_path):
    loader = DataLoader(
        Numbers(60),
        batch_size=6,
        num_workers=1,
        worker_init_fn=Setting(tmp_path),
        multiprocessing_context="fork",
        timeout=60,
        prefetch_factor=1,
    )
    source = as_source(loader)
    assert source.batch_size == 6
    assert source.settings.options["multiprocessing_context"].get_start_method() == "fork"
    assert {name: source.settings.options[name] for name in ("timeout", "prefetch_factor")} == {
        "timeout": 60,
        "prefetch_factor": 1,
    }
    assert [len(images) for images, _ in source.batches(250)] == [6] * 10
    assert (tmp_path / "worker0").exists()


@pytest.mark.parametrize(
    "data", [Numbers(60), TensorDataset(*tensors(60)), Stream()], ids=["items", "tensors", "stream"]
)
def test_a_loader_that_pins_memory_is_silent_where_nothing_can_be_pinned(data, recwarn):
    source = as_source(DataLoader(data, batch_size=6, pin_memory=True))
    assert sorted(values(source)) == list(range(60))
    assert not recwarn.list


def test_memory_stays_pinned_where_there_is_an_accelerator(monkeypatch):
    asked = []
    source = as_source(DataLoader(Numbers(60), batch_size=6, pin_memory=True))
    monkeypatch.setattr("amc.data.dataset_source.DataLoader", lambda *args, **options: asked.append(options) or [])
    values(source)
    assert [options["pin_memory"] for options in asked] == [True]


def test_batches_of_any_form_are_taken_apart_by_a_function():
    loader = [{"image": images, "label": classes, "id": 3} for images, classes in [tensors(20), tensors(20, 20)]]
    roles = roles_from_loaders(loader, loader, batch=lambda item: (item["image"], item["label"]), search_images=8)
    assert (len(roles.train), len(roles.search), len(roles.test)) == (32, 8, 40)
    items = Renamed([(torch.zeros(1, 2, 2), index, "name") for index in range(20)])
    roles = roles_from_loaders(DataLoader(items, 4), items, batch=lambda item: item[:2], search_images=4)
    assert (len(roles.train), len(roles.search), len(roles.test)) == (16, 4, 20)


def test_three_parts_are_training_validation_and_test():
    roles = roles_of_pair((tensors(30), tensors(9, 200), tensors(5, 100)), seed=0)
    assert sorted(values(roles.search)) == list(range(200, 209))
    assert (len(roles.train), values(roles.test)) == (30, [100, 101, 102, 103, 104])


@pytest.mark.parametrize(
    ("targets", "task"),
    [(torch.rand(40), "regression"), (torch.rand(40, 3), "regression"), (torch.zeros(40, 4, 4).long(), "segmentation")],
)
@pytest.mark.parametrize("as_loader", [False, True])
def test_targets_of_other_tasks_pass_as_they_are(targets, task, as_loader):
    pair = (torch.zeros(40, 1, 4, 4), targets)
    data = DataLoader(Renamed(TensorDataset(*pair)), batch_size=7) if as_loader else pair
    roles = roles_from_loaders(data, data)
    assert roles.task.name == task
    assert roles.search.targets.dtype == targets.dtype
    assert roles.search.targets.shape[1:] == targets.shape[1:]
    named = roles_from_loaders(data, data, task="regression", metric="neg_mae", loss="mae")
    assert (named.task.name, named.task.metric_name) == ("regression", "neg_mae")


@pytest.mark.parametrize("given", [True, False], ids=["search and calibration given", "drawn from train"])
def test_every_beginning_of_what_candidates_are_scored_on_has_all_classes(given):
    classes = torch.arange(90) // 30  # one class after the other, as in a folder of images
    ordered = TensorDataset(torch.arange(90).float().view(-1, 1, 1, 1), classes)
    data = Renamed(ordered)
    extra = {"search": data, "calibration": data} if given else {"search_images": 30}
    roles = roles_from_loaders(data, data, calibration_images=1000, **extra)
    for split in (roles.search, roles.calibration):
        assert len(split) >= 30
        assert set(split.take(range(9)).targets.tolist()) == {0, 1, 2}


def test_given_splits_are_used_as_they_are():
    roles = roles_from_loaders(
        Numbers(30), Numbers(5, 100), search=Numbers(9, 200), calibration=Numbers(40, 300), calibration_images=10
    )
    assert sorted(values(roles.train)) == list(range(30))
    assert sorted(values(roles.search)) == list(range(200, 209))
    assert len(set(values(roles.calibration))) == 10
    assert min(values(roles.calibration)) >= 300


def test_seed_decides_what_is_held_out():
    first, again, other = (set(values(roles_from_loaders(Numbers(60), Numbers(3), seed=s).search)) for s in (1, 1, 2))
    assert first == again != other


def test_data_sets_are_read_anew_in_every_epoch_in_an_order_of_the_seed():
    dataset = Numbers(20)
    source = as_source(DataLoader(dataset, batch_size=4, shuffle=True))
    assert dataset.reads == 0
    first, again, other = (values(source, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert dataset.reads == 3 * 14
    assert first == again != other
    assert len(first) == 14  # a last batch of 6 is left out


def test_own_sources_pass_unchanged():
    split = load_data(DataConfig()).search
    assert as_source(split) is split


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (7, "must be tensors, a Dataset, a DataLoader or an iterable of batches, not int"),
        ([], "at least one batch"),
        ([{"input": 1}], r"pair of tensors \(inputs, targets\), not dict with the keys input; say how .*batch=lambda"),
        ([(torch.zeros(2, 1), torch.zeros(2), "meta")], "not a tuple of Tensor, Tensor, str; say how"),
        ([(torch.zeros(2, 1), 0), (torch.zeros(3, 1), 1)], "all of one shape"),
        ([(torch.zeros(2, 1), torch.zeros(2)), (torch.zeros(2, 3), torch.zeros(2))], "one shape to be kept in memory"),
    ],
)
def test_what_is_no_data_is_named(data, message):
    with pytest.raises(DataError, match=message):
        as_source(data)


@pytest.mark.parametrize("data", [Numbers, tensors])
def test_too_large_or_too_small_a_search_split_is_refused(data):
    with pytest.raises(DataError, match=r"takes 60 of the 60.*or a smaller"):
        roles_from_loaders(data(60), Numbers(5), search_images=60)
    with pytest.raises(
        DataError, match=r"takes 0 of the 4 training \w+; it must take one and leave some: give more \w+$"
    ):
        roles_from_loaders(data(4), Numbers(5))
