"""A pruned network in one file: it computes the same as with shared weights, is far smaller, and is checked."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
import zlib

import pytest
import torch

import amc
from amc.errors import CheckpointError, ConfigurationError, ConsentError, ExportError, UnknownNameError
from amc.models import create_model
from amc.pipeline import pack as packing
from amc.storage.packed import dense_size, unpacked_size
from amc.storage.save import save_weights

QUICK = amc.PackConfig(conv_bits=5, fc_bits=4, pack_epochs=1)


@pytest.fixture(scope="module")
def packed(compressed, digits, tmp_path_factory):
    file = tmp_path_factory.mktemp("pack") / "net.amcpack"
    report = amc.pack(compressed.model, file, QUICK, digits, architecture=compressed.architecture, device="cpu")
    return file, report


def logits(model, digits):
    with torch.no_grad():
        return model.eval()(digits.test.inputs())


@pytest.mark.parametrize("share_of_zeros", [0.0, 0.9])
def test_the_size_before_packing_is_that_of_the_file_and_takes_no_disk(tmp_path, monkeypatch, share_of_zeros):
    model = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.BatchNorm1d(30))
    with torch.no_grad():
        model[0].weight[torch.rand(30, 40, generator=torch.Generator().manual_seed(0)) < share_of_zeros] = 0
    save_weights(tmp_path / "net.safetensors", model)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *names: pytest.fail("wrote to the disk"))
    assert unpacked_size(model) == (tmp_path / "net.safetensors").stat().st_size


@pytest.mark.heavy
def test_the_file_computes_what_the_network_with_shared_weights_does(packed, digits):
    file, report = packed
    loaded = amc.load(file)
    assert torch.equal(logits(loaded, digits), logits(report.model, digits))
    for name, tensor in report.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    right = (logits(loaded, digits).argmax(1) == digits.test.targets).float().mean()
    assert 100 * float(right) == pytest.approx(report.accuracy["trained"], abs=0.01)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "settings", [{"optimizer": "adamw"}, {"decay_by_layer": {"layer1*": 100.0}}], ids=["adaptive", "decay"]
)
def test_what_would_count_for_every_weight_that_shares_a_value_is_left_out(
    packed, compressed, digits, tmp_path, settings
):
    _, plain = packed
    how = {"architecture": compressed.architecture, "finetune": amc.FineTuneConfig(**settings), "device": "cpu"}
    found = amc.pack(compressed.model, tmp_path / "net.amcpack", QUICK, digits, **how)
    assert all(torch.equal(tensor, found.model.state_dict()[name]) for name, tensor in plain.model.state_dict().items())


@pytest.mark.parametrize("error", [ExportError("it differs"), KeyboardInterrupt()])
def test_a_file_that_was_not_read_back_replaces_nothing(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("amc.pipeline.pack.load", fail)
    (tmp_path / "net.amcpack").write_text("an earlier one")
    with pytest.raises(type(error)):
        amc.pack(create_model("digits_lenet"), tmp_path / "net.amcpack", overwrite=True)
    assert (tmp_path / "net.amcpack").read_text() == "an earlier one"
    assert {file.name for file in tmp_path.iterdir()} == {"net.amcpack", ".net.amcpack.lock"}


def test_accuracy_is_kept_within_what_few_images_tell(packed):
    _, report = packed
    assert report.accuracy["before"] > 80
    assert report.accuracy["trained"] > report.accuracy["before"] - 3
    assert set(report.accuracy) == {"before", "shared", "trained"}


def test_the_network_given_stays_as_it_is(compressed, packed, digits):
    _, report = packed
    assert not torch.equal(logits(compressed.model, digits), logits(report.model, digits))
    assert len(compressed.model.layer1[0].conv1.weight.unique()) > 33


def test_layers_have_few_values_zeros_stay_and_the_bits_add_up(packed, compressed):
    file, report = packed
    for layer in report.layers:
        weight, before = (net.get_parameter(f"{layer.name}.weight") for net in (report.model, compressed.model))
        assert torch.equal(weight == 0, before == 0)
        assert layer.kept == int(weight.count_nonzero())
        assert layer.weights == weight.numel()
        if "codes" in layer.bits:
            assert layer.values <= (16 if layer.name == "linear" else 32)
            assert layer.bits["codes"] <= layer.kept * 5.1 + 200
    assert sum(sum(layer.bits.values()) for layer in report.layers) < 8 * report.size_bytes
    assert report.size_bytes == file.stat().st_size
    assert report.size_bytes < 0.5 * unpacked_size(compressed.model)


def test_the_dense_size_is_that_of_the_dense_networks_file(compressed, tmp_path):
    source = compressed.architecture["source"]
    save_weights(tmp_path / "dense.safetensors", amc.create_model(source["reference"], **source["options"]))
    assert dense_size(compressed.architecture, compressed.model) == (tmp_path / "dense.safetensors").stat().st_size


@pytest.mark.heavy
def test_without_training_the_values_are_the_clusters(compressed, digits, tmp_path):
    config = amc.PackConfig(conv_bits=5, pack_epochs=0)
    record = compressed.architecture
    with_data = amc.pack(compressed.model, tmp_path / "a", config, digits, architecture=record, device="cpu")
    without = amc.pack(compressed.model, tmp_path / "b", config, architecture=record, device="cpu")
    assert set(with_data.accuracy) == {"before", "shared"}
    assert not without.accuracy
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_single_layers_have_bits_of_their_own(compressed, tmp_path):
    config = amc.PackConfig(bits={"layer3.*": 2, "layer*": 3}, pack_epochs=0)
    report = amc.pack(compressed.model, tmp_path / "net", config, architecture=compressed.architecture)
    for layer in report.layers:
        if "codes" in layer.bits and layer.name.startswith("layer"):
            assert layer.values <= (4 if layer.name.startswith("layer3") else 8), layer.name
    with pytest.raises(UnknownNameError, match=r"unknown layer 'layr\*'"):
        amc.pack(compressed.model, tmp_path / "other", amc.PackConfig(bits={"layr*": 3}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv_bits": 9}, "conv_bits must be from 1 to 8, not 9"),
        ({"bits": {"conv1": 0}}, "bits of conv1 must be from 1 to 8, not 0"),
        ({"fc_index_bits": 0}, "fc_index_bits must be from 1 to 8"),
        ({"initialisation": "linar"}, "unknown initialisation 'linar'; did you mean 'linear'"),
        ({"pack_rate": 0.0}, "pack_rate positive"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        amc.PackConfig(**options)


def test_what_is_there_is_not_replaced_unless_asked(compressed, tmp_path):
    file, config = tmp_path / "net", amc.PackConfig(pack_epochs=0)
    amc.pack(compressed.model, file, config, architecture=compressed.architecture)
    with pytest.raises(ExportError, match="exists already"):
        amc.pack(compressed.model, file, config, architecture=compressed.architecture)
    amc.pack(compressed.model, file, config, architecture=compressed.architecture, overwrite=True)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ExportError, match=r"must be finite to be packed: '0\.weight'"):
        amc.pack(model, tmp_path / "net")


class Mine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(40, 30)
        self.tied = torch.nn.Linear(40, 30)
        self.tied.weight = self.fc.weight

    def forward(self, x):
        return self.fc(x) + self.tied(x)


def test_a_network_of_ones_own_is_given_to_be_loaded(tmp_path):
    torch.manual_seed(0)
    report = amc.pack(Mine(), tmp_path / "net", amc.PackConfig(pack_epochs=0))
    with pytest.raises(ConsentError, match="names code of its own"):
        amc.load(tmp_path / "net")
    loaded = amc.load(tmp_path / "net", model=Mine())
    x = torch.randn(3, 40)
    assert torch.equal(loaded(x), report.model(x))
    assert dense_size({"source": {}, "tensors": {}}, Mine()) == unpacked_size(Mine())  # a tensor of two names once


def resealed(content, head=None, body=None):
    """A file whose checksum is right, with another head or other tensors."""
    (length,) = struct.unpack_from("<I", content, 40)
    old, rest = zlib.decompress(content[44 : 44 + length]), content[44 + length :]
    text = zlib.compress(old if head is None else head(old))
    inner = struct.pack("<I", len(text)) + text + (rest if body is None else body(rest))
    return content[:8] + hashlib.sha256(inner).digest() + inner


def test_every_changed_byte_is_found(packed, tmp_path):
    content, file = packed[0].read_bytes(), tmp_path / "damaged"
    for place in (0, 9, 41, 50, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 4
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"must be a packed network that can be read: .*; copy it again"):
            amc.load(file)
    for cut in (0, 7, 40, len(content) - 1):
        file.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match="must be a packed network"):
            amc.load(file)


def changed(name, value):
    def change(old):
        head = json.loads(old)
        head["tensors"][-1][name] = value
        return json.dumps(head).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda old: b"{}", "must be of format 1"),
        (
            lambda old: old.replace(b'{"format": 1', b'{"format": 2').replace(b'{"format":1', b'{"format":2'),
            "a newer amc",
        ),
        (lambda old: b"[", "not JSON"),
        (lambda old: old.replace(b'"architecture"', b'"architectura"'), "architecture"),
        (changed("shape", [10, 10**11]), "size mismatch|must"),
        (changed("shape", [3]), "size mismatch"),
        (changed("name", "nowhere"), "unknown"),
        (changed("dtype", "int64"), "must have the type"),
        (changed("bytes", 10**12), "bytes of its tensors"),
        (changed("symbols", -1), "symbols"),
        (changed("coding", "pickle"), "coding"),
        (lambda old: b" " * 5_000_000 + old, "at most 4,194,304 bytes"),
        (lambda old: b'{"format": 1, "record": {"a": [' + b"0," * 9_000_000 + b"0]}}", "at most 4,194,304 bytes"),
    ],
)
def test_a_head_that_lies_is_one_line_even_if_its_checksum_is_right(packed, tmp_path, change, message):
    file = tmp_path / "forged"
    file.write_bytes(resealed(packed[0].read_bytes(), head=change))
    with pytest.raises(CheckpointError, match=message):
        amc.load(file)


def test_a_large_file_may_have_a_longer_head_up_to_a_bound(packed, tmp_path):
    file, content = tmp_path / "forged", packed[0].read_bytes()

    def padded(old):
        return b" " * 5_000_000 + old

    file.write_bytes(resealed(content, head=padded, body=lambda old: old + bytes(24_000_000)))
    with pytest.raises(CheckpointError, match="the bytes of its tensors, and no others"):  # so that the head was read
        amc.load(file)
    file.write_bytes(resealed(content, head=lambda old: b" " * (1 << 24) + old, body=lambda old: old + bytes(1 << 27)))
    with pytest.raises(CheckpointError, match="at most 16,777,216 bytes"):
        amc.load(file)


def test_tensors_that_lie_are_refused_even_if_their_checksum_is_right(packed, tmp_path):
    file = tmp_path / "forged"
    content = packed[0].read_bytes()
    for seed in range(20):

        def disturb(body, seed=seed):
            body, draw = bytearray(body), torch.Generator().manual_seed(seed)
            for place in torch.randint(len(body), (200,), generator=draw).tolist():
                body[place] ^= 255
            return bytes(body)

        file.write_bytes(resealed(content, body=disturb))
        with pytest.raises(CheckpointError, match=r"^[^\n]* must [^\n]*$"):
            amc.load(file)


def test_a_folder_that_is_deleted_meanwhile_takes_no_trained_values_with_it(tmp_path, monkeypatch):
    file, share = tmp_path / "out" / "net.amcpack", packing.shared

    def deleting(*arguments):
        shutil.rmtree(file.parent, ignore_errors=True)
        return share(*arguments)

    monkeypatch.setattr(packing, "shared", deleting)
    amc.pack(create_model("digits_resnet", num_classes=10), file, device="cpu")
    assert amc.load(file) is not None
