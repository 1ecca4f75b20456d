"""A folder from elsewhere makes `amc.load` neither crash, nor take memory or time, nor build what was not pruned."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

import amc
from amc.cli.main import main
from amc.errors import AmcError, CheckpointError, ConfigurationError, RunFolderError
from amc.models import create_model
from amc.report.origin import Origin
from amc.storage.architecture import describe
from amc.storage.example_input import random_input
from amc.storage.fit import read_header
from amc.storage.positions import parse_positions
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.structure.slicing import cut
from amc.tracing.trace import trace_structure
from amc.utils.sparse_tensors import unpacked


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """Half a network, by name."""
    folder, source = tmp_path_factory.mktemp("pruned"), ModelSource("name", "digits_resnet", {"num_classes": 10})
    dense = source.build()
    structure = trace_structure(dense.eval(), torch.zeros(1, 1, 8, 8))
    kept = {i: torch.arange(0, structure.groups[i].channels, 2) for i in structure.prunable}
    record = describe(dense, structure, kept, source)
    cut(dense, structure, kept)
    save_network(folder, dense, record)
    return folder


@pytest.fixture
def folder(pruned, tmp_path):
    for name in ("architecture.json", "model.safetensors"):
        (tmp_path / name).write_bytes((pruned / name).read_bytes())
    return tmp_path


def edit(folder, change):
    file = folder / "architecture.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def spoil(folder, change, *, parts=False):
    tensors = load_file(folder / "model.safetensors")
    tensors = tensors if parts else unpacked(tensors)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_an_untouched_folder_loads(folder):
    assert amc.load(folder)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def put(name, axis, text):
    return lambda record: record["tensors"].setdefault(name, {}).update({axis: text})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put("conv1.weight", "0", "0-999999999"), "has no position 999999999: its length is 16"),
        (put("conv1.weight", "0", "0-99999999999999999999"), "must be rising ranges"),
        (put("conv1.weight", "0", "5,3"), "must be rising ranges"),
        (put("conv1.weight", "0", "3-1"), "must be rising ranges"),
        (put("conv1.weight", "0", "1,1,1,1"), "must be rising ranges"),
        (put("conv1.weight", "0", "-1"), "must be rising ranges"),
        (put("conv1.weight", "0", ""), "must be rising ranges"),
        (put("conv1.weight", "0", "1\n"), "must be rising ranges"),
        (put("conv1.weight", "0", "1_0"), "must be rising ranges"),
        (put("conv1.weight", "7", "0"), "has no axis 7"),
        (put("conv1.weight", "-1", "0"), "is damaged: .*regex"),
        (put("conv1.weight", "x", "0"), "is damaged: .*regex"),
        (put("conv1.weight", "0", 3), "is damaged: Expected `str`"),
        (put("nothing.weight", "0", "0"), "has no tensor 'nothing.weight'"),
        (put("conv1.weight", "0", "0-3"), r"size mismatch of conv1\.weight"),
        (lambda record: record["source"]["options"].update(num_classes=10**7), "must not be 10000000"),
        (lambda record: record["source"]["options"].update(num_classes=10**6), r"size mismatch of linear\."),
        (lambda record: record["source"]["options"].update(num_classes=-1), "must not be -1"),
        (lambda record: record["source"].update(reference="vit_h_14"), "do not fit|has no tensor"),
        (lambda record: record["source"].update(reference="x" * 1000), "is damaged: .*length"),
        (lambda record: record["source"].update(extra=1), "is damaged: .*unknown field"),
        (lambda record: record.update(format=[1]), "must be of format 1"),
        (lambda record: record.update(attributes=[["", "forward", "x"]]), "is damaged: Expected `int`"),
        (lambda record: record.update(attributes=[["", "forward", 1]]), "must set numbers of channels"),
        (lambda record: record.update(attributes=[["", "training", 1]]), "must set numbers of channels"),
        (lambda record: record.update(attributes=[["", "_modules", 1]]), "must set numbers of channels"),
        (lambda record: record.update(attributes=[["conv1", "__class__", 1]]), "must set numbers of channels"),
        (lambda record: record.update(attributes=[["conv1", "stride[0]", 0]]), "must set numbers of channels"),
        (lambda record: record.update(attributes=[["conv1", "groups", 2]]), "must set numbers of channels"),
        (lambda record: record.update(attributes=[["conv1", "out_channels", -1]]), "must set numbers of channels"),
        (lambda record: record.update(attributes=[["conv1", "kernel_size[99]", 1]]), "must set numbers of channels"),
        (lambda record: record.update(attributes=[["nowhere", "groups", 1]]), "must set numbers of channels"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(folder, change, expected):
    edit(folder, change)
    with pytest.raises(CheckpointError, match=expected):
        amc.load(folder)


def test_a_dense_network_out_of_proportion_is_refused(folder):
    # Cut to ten outputs, so that shapes fit; the dense layer would take two gigabytes before that.
    edit(folder, lambda record: record["source"]["options"].update(num_classes=2**20))
    edit(folder, put("linear.weight", "0", "0-9"))
    edit(folder, put("linear.bias", "0", "0-9"))
    with pytest.raises(CheckpointError, match="more than 64 times as many"):
        amc.load(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.update({"conv1.weight": t["conv1.weight"] * torch.nan}), "must be finite.*conv1"),
        (lambda t: t["bn1.running_var"].fill_(torch.inf), r"must be finite.*bn1\.running_var"),
        (lambda t: t.update({"conv1.weight": t["conv1.weight"].to(torch.uint8)}), "must have the type torch.float32"),
        (lambda t: t.update({"conv1.weight": t["conv1.weight"].to(torch.complex64)}), "must have the type"),
        (lambda t: t.update({"bn1.num_batches_tracked": torch.tensor(1.0)}), "must have the type torch.int64"),
        (lambda t: t.update({"conv1.weight": torch.zeros(3)}), r"size mismatch of conv1\.weight"),
        (lambda t: t.update({"extra": torch.zeros(3)}), "'extra' and others, 1 in all, are unknown"),
        (lambda t: t.pop("conv1.weight"), "lacks 'conv1.weight'"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, change, expected):
    spoil(folder, change)
    with pytest.raises(CheckpointError, match=expected):
        amc.load(folder)


@pytest.mark.heavy
def test_places_in_tables_lie_within_the_networks(tmp_path):
    model = create_model("swin_t", num_classes=2, seed=0)
    save_network(tmp_path, model, describe(model, None, {}, ModelSource("name", "swin_t", {"num_classes": 2})))
    amc.load(tmp_path)
    name = next(name for name in read_header(tmp_path / "model.safetensors").tensors if name.endswith("position_index"))
    spoil(tmp_path, lambda tensors: tensors[name].fill_(10**6))
    with pytest.raises(CheckpointError, match="must lie within those of its network"):
        amc.load(tmp_path)


@pytest.mark.parametrize("name", ["architecture.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "zero", "folder", "empty", "noise", "half"])
def test_files_that_are_none_are_refused(folder, name, kind):
    file = folder / name
    content = file.read_bytes()
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_bytes({"empty": b"", "noise": os.urandom(999), "half": content[: len(content) // 2]}[kind])
    with pytest.raises((CheckpointError, RunFolderError), match=name):
        amc.load(folder)


@pytest.mark.parametrize("name", ["regnet_y_400mf", "vit_b_16", "shufflenet_v2_x0_5"])
def test_networks_are_outlined_without_memory(name):
    outline = ModelSource("name", name, {"num_classes": 3}).outline()
    assert all(parameter.is_meta for parameter in outline.parameters())
    assert not torch.is_inference_mode_enabled()


def test_what_cannot_be_outlined_is_left_to_the_build():
    assert ModelSource("class", "torch.nn:Linear").outline() is None
    with pytest.raises(AmcError, match="unknown model"):
        ModelSource("name", "resnt18").outline()


def test_positions_are_bounded_by_their_axis():
    assert parse_positions("0-1,3", 4).tolist() == [0, 1, 3]
    with pytest.raises(CheckpointError, match="no position 4: its length is 4"):
        parse_positions("4", 4)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda index: [[name, dtype, *shape[:-1], 10**12] for name, dtype, *shape in index],
            "size mismatch|must have",
        ),
        (lambda index: [[name, dtype, *shape, 10**20] for name, dtype, *shape in index], "readable JSON|must list"),
        (lambda index: [[name, "load", *shape] for name, dtype, *shape in index], "must have the type|does not hold"),
        (lambda index: [*index, ["bn1.weight", "float32", 16]], "hold each tensor once|size mismatch|does not hold"),
        (lambda index: index[:-1], "does not hold|lacks"),
        (lambda index: {"a": index}, "must list|readable JSON"),
        (lambda index: 3, "readable JSON"),
    ],
)
def test_parts_of_sparse_tensors_that_do_not_fit_are_refused(tmp_path, change, expected):
    model = create_model("digits_resnet", seed=0)
    with torch.no_grad():
        for layer in (model.conv1, model.layer1[0].conv1):
            layer.weight[1:] = 0
    save_network(tmp_path, model, describe(model, None, {}, ModelSource("name", "digits_resnet")))
    index = json.loads(bytes(load_file(tmp_path / "model.safetensors")["sparse.index"].tolist()))
    assert torch.equal(amc.load(tmp_path).conv1.weight, model.conv1.weight)
    spoilt = torch.tensor(list(json.dumps(change(index)).encode()), dtype=torch.uint8)
    spoil(tmp_path, lambda tensors: tensors.update({"sparse.index": spoilt}), parts=True)
    with pytest.raises(CheckpointError, match=expected):
        amc.load(tmp_path)


def test_parts_of_sparse_tensors_without_their_index_are_refused(folder):
    spoil(folder, lambda tensors: tensors.update({"sparse.bits": torch.zeros(3, dtype=torch.uint8)}))
    with pytest.raises(CheckpointError, match="parts of tensors without sparse"):
        amc.load(folder)


@pytest.mark.parametrize(
    "record",
    [
        {"shape": [1, 1, 100_000, 100_000], "dtype": "float32"},
        {"shape": [0, 1, 8, 8], "dtype": "float32"},
        {"shape": [-1, -1], "dtype": "float32"},
        {"shape": [1], "dtype": "load"},
        {"shape": "18", "dtype": "float32"},
        {"mapping": 3},
        {"tuple": [{"shape": [1 << 22], "dtype": "float32"}] * 5},
        {
            "mapping": {
                "x": {"tuple": [{"shape": [1 << 24], "dtype": "float32"}]},
                "y": {"shape": [1], "dtype": "int64"},
            }
        },
        [3],
    ],
)
def test_inputs_that_cannot_be_made_are_refused(record):
    with pytest.raises(ConfigurationError, match="must have a shape and a dtype"):
        random_input(record)


def test_messages_are_one_line_that_a_terminal_only_shows(folder, capsys):
    edit(folder, lambda record: record["source"].update(reference="\x1b[2J\x07\n" * 60))
    assert main(["evaluate", str(folder)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.isprintable()
    assert len(line) < 2100


def test_a_command_that_a_file_names_is_not_repeated(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"command": "; rm -rf /", "files": {}, "digests": {}}))
    with pytest.raises(RunFolderError, match="the command must be a name"):
        Origin.read(tmp_path)


class Recurrent(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.layers, self.head = torch.nn.LSTM(4, 6, batch_first=True, **options), torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.layers(x)[0][..., :6].mean(1))


@pytest.fixture(params=[{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def recurrent(request, tmp_path):
    """Half a recurrent network; returns its folder and what makes the dense one."""

    def dense():
        return Recurrent(**request.param)

    network = dense().eval()
    structure = trace_structure(network, torch.zeros(1, 5, 4))
    kept = {i: torch.arange(0, structure.groups[i].channels, 2) for i in structure.prunable}
    record = describe(network, structure, kept, ModelSource.of(network))
    cut(network, structure, kept)
    save_network(tmp_path, network, record)
    return tmp_path, dense


def test_a_recurrent_network_loads(recurrent):
    folder, dense = recurrent
    assert amc.load(folder, model=dense())(torch.zeros(1, 5, 4)).shape == (1, 3)


@pytest.mark.parametrize(
    "change", [("hidden_size", 0), ("hidden_size", 1), ("input_size", 2), ("num_layers", 0)], ids=str
)
def test_recurrent_layers_that_are_not_as_wide_as_their_weights_are_refused(recurrent, change):
    """oneDNN's LSTM ends the process where it divides by a width of zero, and reads beyond a narrow state."""
    folder, dense = recurrent
    edit(folder, lambda record: record["attributes"].append(["layers", *change]))
    with pytest.raises(CheckpointError, match="must leave recurrent layers as wide as their weights"):
        amc.load(folder, model=dense())


def test_recurrent_layers_that_stay_wide_where_their_weights_are_cut_are_refused(recurrent):
    folder, dense = recurrent
    edit(folder, lambda record: record.update(attributes=[]))
    with pytest.raises(CheckpointError, match="must leave recurrent layers as wide as their weights"):
        amc.load(folder, model=dense())
