"""Weights files, training states and images from elsewhere: refused in one line, before they take memory or time."""

import os
import shutil
import struct
import time
import zipfile
import zlib
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from amc.data.reading.decoding import decode_image
from amc.data.reading.pictures import DatasetPictures
from amc.errors import CheckpointError, DataError
from amc.models import create_model, load_weights, read_state_dict
from amc.training import TrainConfig, train_model
from amc.training.checkpoint import read_checkpoint


@pytest.fixture
def model():
    return create_model("digits_resnet", seed=0)


@pytest.mark.parametrize(
    "tensor",
    [
        lambda: torch.empty(16, device="meta"),
        lambda: torch.eye(4).to_sparse(),
        lambda: torch.eye(4).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    ],
    ids=["meta", "sparse", "compressed rows", "quantised", "nested"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_values_are_refused(model, tmp_path, tensor):
    torch.save({**model.state_dict(), "bn1.weight": tensor()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt (must hold plain tensors|is not a readable|holds more)"):
        load_weights(model, tmp_path / "w.pt")


def test_an_archive_that_unpacks_to_more_than_it_holds_is_refused(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "w.pt")
    with (
        zipfile.ZipFile(tmp_path / "w.pt") as old,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.namelist():
            new.writestr(entry, b"\0" * 50_000_000 if entry.endswith("/data/0") else old.read(entry))
    assert (tmp_path / "bomb.pt").stat().st_size < 1_000_000
    with pytest.raises(CheckpointError, match="must unpack to no more than its"):
        read_state_dict(tmp_path / "bomb.pt")


def test_a_dict_that_holds_itself_is_refused(tmp_path):
    content = {"epoch": 3}
    content["model"] = content
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="must hold a state dict"):
        read_state_dict(tmp_path / "w.pt")


def test_views_of_little_memory_that_claim_much_are_refused(model, tmp_path):
    torch.save({**model.state_dict(), "bn1.weight": torch.zeros(1).expand(10**12)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"other shape: bn1\.weight"):
        load_weights(model, tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\3\4" + b"x" * 50, b"\x80\x02" + b"]" * 99_999])
def test_files_that_hold_anything_else_are_refused(tmp_path, content, suffix):
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.(pt|safetensors) (is not a readable|holds more|must)"):
        read_state_dict(tmp_path / f"w{suffix}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training of two epochs; returns what trains it from the state in a file, and the folder of its states."""
    from amc.data import DataConfig, load_data

    folder = tmp_path_factory.mktemp("trained")
    roles = load_data(DataConfig(train_images=64, test_images=16, calibration_images=16), seed=0)

    def train(file):
        network = create_model("digits_resnet", seed=0)
        return train_model(network, roles, TrainConfig(epochs=2), device="cpu", checkpoint=file)

    train(folder / "state.pt")
    return train, folder


@pytest.fixture
def training(trained, tmp_path):
    """Returns what trains it from a state, and the state's file, which a test may change."""
    train, folder = trained
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return partial(train, tmp_path / "state.pt"), tmp_path / "state.pt"


def first(state):
    return next(iter(state["optimizer"]["state"].values()))


def in_one_place(tensor):
    return tensor[:1].expand(*tensor.shape)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: first(s).update(momentum_buffer=torch.zeros(2)), "'a momentum' must have shape"),
        (lambda s: first(s)["momentum_buffer"].fill_(torch.nan), "'a momentum' holds NaN"),
        (lambda s: first(s).update(momentum_buffer=in_one_place(first(s)["momentum_buffer"])), "must have a place in"),
        (lambda s: first(s).update(other=1), "the optimiser has no 'other'"),
        (lambda s: s["optimizer"]["state"].update({10**6: {"momentum_buffer": torch.zeros(1)}}), "index out of range"),
        (lambda s: s["model"].update({"conv1.weight": torch.zeros(2)}), r"'conv1\.weight' must have shape"),
        (lambda s: s["model"].pop("conv1.weight"), "are missing, or too many"),
        (lambda s: s["model"]["conv1.weight"].fill_(torch.inf), r"'conv1\.weight' holds NaN or infinite"),
        (lambda s: s.update(generator=torch.zeros(3, dtype=torch.uint8)), "generator is of another form"),
        (lambda s: s["global_generators"].update(numpy=("MT19937", torch.zeros(624, dtype=torch.int64), 10**6, 0, 0.0)),
         "must lie within its state"),
        (lambda s: s["global_generators"].update(numpy=("MT19937", torch.zeros(3), 0, 0, 0.0)), "NumPy's generator"),
        (lambda s: s["global_generators"].update(python=3), "must be of the training"),
        (lambda s: s["history"].append({"epoch": 1}), "must be of the training.*missing required field"),
        (lambda s: s.update(history=3), "must be of the training.*must be an iterable"),
        (lambda s: s.pop("start"), "must be of the training.*'start' is missing"),
        (lambda s: s["best"].update(epoch="x"), "must be a whole number"),
        (lambda s: s.update(unfinished={"steps": -1}), "must be a whole number"),
    ],
)  # fmt: skip
def test_a_training_state_that_is_not_this_trainings_is_refused(training, change, expected):
    train, file = training
    content = torch.load(file, weights_only=True)
    change(content["state"])
    torch.save(content, file)
    with suppress(FileNotFoundError):
        file.with_name(f"{file.name}.before").unlink()
    with pytest.raises(CheckpointError, match=expected):
        train()


def test_settings_that_are_tensors_are_refused(training):
    _, file = training
    torch.save({"settings": {"format": torch.zeros(3)}, "state": {}}, file)
    file.with_name(f"{file.name}.before").unlink()
    with pytest.raises(CheckpointError, match="is no training state"):
        read_checkpoint(file, {})


def png(width, height):
    """Returns a PNG whose header claims a size, and whose data is a single row."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [None, 32])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        png(40_000, 25_000),
        png(100_000, 100_000),
        png(10_000, 10_000),
        png(8, 8)[:40],
        png(0, 8),
        b"\x89PNG",
        b"GIF89a",
    ],
    ids=["empty", "1e9 pixels", "1e10 pixels", "1e8 pixels", "truncated", "no width", "signature", "other"],
)
def test_images_that_are_none_are_refused(tmp_path, content, size):
    (tmp_path / "image.png").write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"image\.png"):
        decode_image(tmp_path / "image.png", size)
    assert time.perf_counter() - start < 5


def test_an_image_that_grows_when_it_is_resized_is_refused(tmp_path):
    Image.fromarray(np.zeros((1, 60_000, 3), dtype=np.uint8)).save(tmp_path / "line.png")
    assert decode_image(tmp_path / "line.png", None).shape == (3, 1, 60_000)
    with pytest.raises(DataError, match=r"when they are resized to data\.image_size"):
        decode_image(tmp_path / "line.png", 224)


@pytest.fixture
def postscript(tmp_path, monkeypatch):
    """An image that Pillow hands to Ghostscript, and the file that a Ghostscript of ours leaves where it is started."""
    program, started = tmp_path / "bin" / "gs", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n8 8 8 [1 0 0 1 0 0] {} image\n", started


def test_no_program_is_started_for_an_image(tmp_path, postscript):
    content, started = postscript
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot decode the image .*image\.png: it is damaged, or in no known format"):
        decode_image(tmp_path / "image.png", None)
    assert not started.exists()


def test_no_program_is_started_for_an_image_that_a_data_set_opens(tmp_path, postscript):
    content, started = postscript
    (tmp_path / "image.png").write_bytes(content)

    class Opening:
        def __getitem__(self, index):
            with Image.open(tmp_path / "image.png") as image:
                return image.convert("RGB"), 0

    photos = DatasetPictures("photos", Opening())
    with pytest.raises(DataError, match="cannot decode the image number 0 of photos"), photos.opened(0):
        pass
    assert not started.exists()
    assert EpsImagePlugin.gs_binary is None  # of what the user does without us, nothing is changed


def test_pipes_and_devices_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(DataError, match="not an ordinary file"):
            decode_image(tmp_path / name, None)
