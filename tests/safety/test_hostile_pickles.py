"""Files of `torch.save` whose instructions take memory or time beyond the file's, or dress up plain containers."""

import io
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from amc.errors import CheckpointError
from amc.models import create_model, load_weights, read_state_dict
from amc.models.pickle_files import read_pickle

START, STOP = b"\x80\x02", b"."
NESTED = START + b"}" + b"X\1\0\0\0a\x85q\0" + b"h\0\x86q\0" * 60 + b"K\1s" + STOP
"""{((a, a), (a, a)), ...}: each tuple holds the one before twice, sixty times."""
AS_SET = START + b"cbuiltins\nset\n]" + b"X\1\0\0\0a\x85q\0" + b"h\0\x86q\0" * 60 + b"a\x85R" + STOP


def call(name, *arguments):
    """Returns a pickle that calls a function with texts and whole numbers."""
    pushed = [
        b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, str)
        else b"\x8a\x08" + struct.pack("<q", value)
        for value in arguments
    ]
    return START + b"c" + name.replace(".", "\n").encode() + b"\n(" + b"".join(pushed) + b"tR" + STOP


def as_archive(file, content):
    """Writes a pickle as `torch.save` does today."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, held in {"data.pkl": content, "byteorder": b"little", "version": b"3\n"}.items():
            archive.writestr(f"w/{name}", held)


def as_old_file(file, content):
    """Writes a pickle as `torch.save` did before 1.6."""
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    before = (MAGIC_NUMBER, PROTOCOL_VERSION, machine)
    file.write_bytes(b"".join([*(pickle.dumps(part, 2) for part in before), content, pickle.dumps([], 2)]))


@pytest.mark.parametrize("write", [as_archive, as_old_file])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (NESTED, "longer to compare"),
        (AS_SET, "longer to compare"),
        (call("builtins.bytearray", 1 << 31), "something else by builtins.bytearray"),
        (call("_codecs.encode", "ä" * 300_000, "punycode"), "something else by _codecs.encode"),
        (call("torch.FloatTensor", 1 << 40), "something else by torch.FloatTensor"),
    ],
    ids=["key", "set", "bytes", "codec", "tensor"],
)
def test_instructions_that_take_more_than_the_file_has_are_refused(tmp_path, write, content, expected):
    write(tmp_path / "w.pt", content)
    with pytest.raises(CheckpointError, match=rf"w\.pt must hold plain tensors and containers.*{expected}"):
        read_state_dict(tmp_path / "w.pt")


def test_a_function_behind_that_of_another_class_is_found(tmp_path):
    hidden = START + b"ctorch._tensor\n_rebuild_from_type_v2\n(cbuiltins\nbytearray\nctorch\nTensor\n"
    hidden += b"\x8a\x08" + struct.pack("<q", 1 << 31) + b"\x85}tR" + STOP
    as_archive(tmp_path / "w.pt", hidden)
    with pytest.raises(CheckpointError, match="something else by"):
        read_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["values", "get"])
def test_a_dict_that_hides_its_own_methods_is_refused(tmp_path, name):
    content = OrderedDict(create_model("digits_resnet").state_dict())
    content.__dict__[name] = 3
    torch.save(OrderedDict(model=content), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=f"one has '{name}' of its own"):
        read_state_dict(tmp_path / "w.pt")


def test_a_tensor_that_hides_its_own_methods_is_refused(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    weight.is_floating_point = 3
    torch.save({"weight": weight}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="one has 'is_floating_point' of its own"):
        read_state_dict(tmp_path / "w.pt")


def bomb():
    """Returns an archive of a megabyte that unpacks to hundreds, although the numbers in its weights fit."""
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(30_000_000, dtype=torch.uint8)}, file)
    packed = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    return packed.getvalue()


def elsewhere(content):
    """Returns an archive with a second, harmless directory before its end: Python reads that one, PyTorch the first."""
    end = content[-22:]
    size, place = struct.unpack("<II", end[12:20])
    directory = content[place : place + size]
    harmless = bytearray(directory)
    at = 0
    while at < len(harmless):
        struct.pack_into("<II", harmless, at + 20, 0, 0)
        struct.pack_into("<H", harmless, at + 10, zipfile.ZIP_STORED)
        at += 46 + sum(struct.unpack("<HHH", harmless[at + 28 : at + 34]))
    return content[:-22] + bytes(harmless) + end


@pytest.mark.parametrize("changed", [lambda held: held + b"PK\5\6" + b"\0" * 10, elsewhere], ids=["behind", "twice"])
def test_archives_that_python_reads_otherwise_than_pytorch_are_refused(tmp_path, changed):
    (tmp_path / "w.pt").write_bytes(changed(bomb()))
    with pytest.raises(
        CheckpointError, match=r"must (end with its directory|stand at its end)|directory of an archive"
    ):
        read_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_trainings_save_is_read(tmp_path, zipped):
    model = create_model("digits_resnet", seed=0)
    optimizer = torch.optim.Adam([{"params": [weight]} for weight in model.parameters()])
    sum(weight.sum() for weight in model.parameters()).backward()
    optimizer.step()
    weight = torch.nn.Parameter(torch.ones(2))
    weight.tag = "mine"
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": {"milestones": Counter([30, 60]), "seen": {1, 2}, "shape": torch.Size((2, 3))},
        "epoch": 3,
        "note": b"bytes",
        "more": [bytearray(b"x"), 2 + 3j, torch.device("cpu"), torch.float16, (), weight, (1, (2, 3))],
    }
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    found = read_pickle(tmp_path / "w.pt")
    assert found["scheduler"] == content["scheduler"]
    assert found["note"] == b"bytes"
    assert load_weights(create_model("digits_resnet", seed=1), tmp_path / "w.pt") == ()
