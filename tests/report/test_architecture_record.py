"""Networks are rebuilt from JSON alone."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import amc
from amc.errors import CheckpointError, ModelError, RunFolderError
from amc.storage.architecture import describe
from amc.storage.positions import format_positions, parse_positions
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.structure.slicing import cut
from amc.tracing.trace import trace_structure


@given(st.sets(st.integers(0, 200), min_size=1))
def test_positions_survive_the_text(positions):
    tensor = torch.tensor(sorted(positions))
    assert parse_positions(format_positions(tensor), 201).tolist() == tensor.tolist()


def test_positions_read_as_ranges():
    assert format_positions(torch.tensor([0, 1, 2, 5, 7, 8])) == "0-2,5,7-8"


class Needy(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 3))


@pytest.fixture
def saved(tmp_path):
    """A network of which half of the channels are gone, and where it is saved."""
    torch.manual_seed(0)
    dense = Needy(8)
    structure = trace_structure(dense, torch.zeros(1, 1, 8, 8))
    kept = {structure.prunable[0]: torch.tensor([1, 2, 6, 7])}
    record = describe(dense, structure, kept, ModelSource.of(dense))
    cut(dense, structure, kept)
    save_network(tmp_path, dense, record)
    return tmp_path, dense.eval()


def test_what_is_cut_further_is_described_by_the_dense_network(saved, tmp_path):
    """Kept channels compose: 1, 2, 6 and 7 of eight stay first, and of these the second and the fourth."""
    folder, _ = saved
    once = amc.load(folder, Needy(8))
    structure = trace_structure(once, torch.zeros(1, 1, 8, 8))
    kept = {structure.prunable[0]: torch.tensor([1, 3])}
    record = describe(once, structure, kept, ModelSource.of(once))
    assert record["groups"] == {"0": "2,7"}
    assert record["tensors"]["2.weight"] == {"1": "2,7"}
    assert record["tensors"]["0.bias"] == {"0": "2,7"}
    cut(once, structure, kept)
    (tmp_path / "twice").mkdir()
    save_network(tmp_path / "twice", once, record)
    images = torch.randn(2, 1, 8, 8)
    loaded = amc.load(tmp_path / "twice", Needy(8))
    assert loaded[0].out_channels == loaded[2].in_channels == 2
    assert torch.equal(loaded(images), once.eval()(images))


def test_a_loaded_network_that_is_not_cut_further_keeps_its_record(saved):
    folder, _ = saved
    record = describe(once := amc.load(folder, Needy(8)), None, {}, ModelSource.of(once))
    written = json.loads((folder / "architecture.json").read_text())
    assert (record["tensors"], record["source"]) == (written["tensors"], written["source"])


@pytest.mark.parametrize("trust", [False, True])
def test_a_sequential_is_asked_for(saved, trust):
    folder, _ = saved
    source = {"kind": "class", "reference": "torch.nn.modules.container:Sequential", "options": {}}
    edit(folder, source=source)
    with pytest.raises(ModelError, match=r"class Sequential, which says nothing of its layers; pass the dense network"):
        amc.load(folder, trust=trust)
    assert amc.load(folder, Needy(8))[0].out_channels == 4


def edit(folder, **values):
    file = folder / "architecture.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_load_into_the_users_network(saved):
    folder, expected = saved
    images = torch.randn(2, 1, 8, 8)
    loaded = amc.load(folder, Needy(8))
    assert loaded[0].out_channels == 4
    assert torch.equal(loaded(images), expected(images))


def test_a_class_that_needs_arguments_asks_for_the_model(saved):
    with pytest.raises(ModelError, match=r"cannot be built without arguments.*model="):
        amc.load(saved[0], trust=True)


def test_the_reason_why_a_class_cannot_be_built_is_told(saved):
    with pytest.raises(ModelError, match=r"missing 1 required positional argument: 'width'"):
        amc.load(saved[0], trust=True)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (
            "own_networks:Net",
            r"'own_networks:Net' must be importable: cannot import 'own_networks'.*on PYTHONPATH",
        ),
        ("json:Net", r"must be importable: module 'json' has no attribute 'Net'"),
        ("__main__:Net", r"'Net' is defined in a script.*move it to a module, or pass the dense network"),
    ],
)
def test_a_class_that_cannot_be_found_is_not_blamed_for_arguments(saved, reference, expected):
    edit(saved[0], source={"kind": "class", "reference": reference, "options": {}})
    with pytest.raises(ModelError, match=expected) as caught:
        amc.load(saved[0], trust=True)
    assert "arguments" not in str(caught.value)


def test_another_network_is_refused(saved):
    with pytest.raises(CheckpointError, match="does not fit"):
        amc.load(saved[0], Needy(5))
    with pytest.raises(CheckpointError, match="has no tensor"):
        amc.load(saved[0], nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (99, "is of 99: written by a newer amc; update amc"),
        (0, "is of 0: written by an older amc; load it with that version and save it again"),
        ("x", "not 'x': it is damaged, or of another program"),
        (None, "not 'None': it is damaged"),
    ],
)
def test_another_format_is_refused_with_its_own_remedy(saved, held, message):
    file = saved[0] / "architecture.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": held}))
    with pytest.raises(CheckpointError, match=message):
        amc.load(saved[0], Needy(8))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"format": 1}', "missing required field `source`"),
        ('{"format": 1, "source": {}, "tensors": {}, "attributes": []}', "missing required field `kind`"),
        ('{"format": 1, "source": {"kind": "name", "reference": "x"}, "tensors": 3}', r"got `int` - at `\$.tensors`"),
    ],
)
def test_a_damaged_record_is_told(saved, text, expected):
    (saved[0] / "architecture.json").write_text(text)
    with pytest.raises(CheckpointError, match=expected):
        amc.load(saved[0])


@pytest.mark.parametrize("text", ["[]", "", "3", "\xff"])
def test_a_record_that_is_no_object_is_told(saved, text):
    (saved[0] / "architecture.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunFolderError, match=r"architecture\.json must"):
        amc.load(saved[0])


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"no architecture\.json"):
        amc.load(tmp_path)


def test_a_module_that_fails_to_import_is_told(saved, tmp_path, monkeypatch):
    (tmp_path / "broken_networks.py").write_text("raise OSError('no such camera')\n")
    monkeypatch.syspath_prepend(tmp_path)
    edit(saved[0], source={"kind": "class", "reference": "broken_networks:Net", "options": {}})
    with pytest.raises(ModelError, match=r"must be importable: no such camera"):
        amc.load(saved[0], trust=True)


def test_the_number_format_of_a_network_is_kept(tmp_path):
    result = amc.compress(
        amc.create_model("digits_resnet", seed=0).double(),
        amc.OwnTask(lambda network: 1.0, example_input=torch.zeros(1, 1, 8, 8, dtype=torch.float64)),
        amc.Budget(flops=0.5),
        agent="uniform",
        finetune=lambda network: None,
    )
    result.save(tmp_path / "double")
    loaded = amc.load(tmp_path / "double")
    assert {value.dtype for value in loaded.parameters()} == {torch.float64}
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), result.model.eval()(images))
