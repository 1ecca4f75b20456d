"""Weights files: read safely, checked against the network, and loaded."""

from __future__ import annotations

import argparse

import numpy
import pytest
import torch
from safetensors.torch import save_file

from amc.errors import CheckpointError, ModelError
from amc.models import create_model, load_weights, read_state_dict


@pytest.fixture
def trained():
    return create_model("digits_resnet", seed=1)


def assert_loads(path, trained):
    model = create_model("digits_resnet", seed=2)
    load_weights(model, path)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), trained.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("suffix", ["th", "bin"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {"ema": {"module": {f"module._orig_mod.net.{name}": t for name, t in state.items()}}, "args": 3},
        *(
            lambda state, key=key: {"epoch": 3, key: state}
            for key in ("net", "state_dict_ema", "weights", "params_ema", "network", "model_state", "ema")
        ),
        *(
            lambda state, prefix=prefix: {f"{prefix}{name}": tensor for name, tensor in state.items()}
            for prefix in ("model.", "net.", "backbone.", "_orig_mod.", "module.model.")
        ),
    ],
)
def test_pytorch_files_load(tmp_path, trained, wrap, suffix):
    path = tmp_path / f"weights.{suffix}"
    torch.save(wrap(trained.state_dict()), path)
    assert_loads(path, trained)


def test_safetensors_load(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", trained)


def test_files_without_batch_counters_load(tmp_path, trained):
    state = {name: value for name, value in trained.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pt")
    assert_loads(tmp_path / "old.pt", trained)


def test_whole_modules_are_refused_with_the_remedy(tmp_path, trained):
    torch.save(trained, tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match=r"torch\.save\(model\.state_dict\(\), FILE\)"):
        read_state_dict(tmp_path / "whole.pt")


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_broken_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="broken"):
        read_state_dict(tmp_path / name)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file at .*absent\.pt"):
        read_state_dict(tmp_path / "absent.pt")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"epoch": 3, "best": "no"}, r"holds epoch \(int\), best \(str\); save one"),
        ({"model": {"w": torch.ones(1), "step": 3}}, r"holds w \(Tensor\), step \(int\); save one"),
        ([torch.ones(1)], "holds a list; save one"),
    ],
)
def test_other_contents_are_refused_with_what_was_found(tmp_path, content, found):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=f"must hold a state dict .*{found}"):
        read_state_dict(tmp_path / "odd.pt")


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (numpy.float64(0.5), r"a NumPy number \(numpy\S*scalar\) beside its weights"),
        (argparse.Namespace(lr=0.1), r"an argparse.Namespace \(argparse.Namespace\) beside its weights"),
    ],
)
def test_what_lies_beside_the_weights_is_named(tmp_path, trained, beside, named):
    torch.save({"state_dict": trained.state_dict(), "args": beside}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=f"{named}.*save its weights with"):
        read_state_dict(tmp_path / "w.pt")


def test_prefixes_that_belong_to_the_names_stay(tmp_path):
    model = torch.nn.Sequential()
    model.add_module("net", torch.nn.Linear(2, 3))
    torch.save(model.state_dict(), tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    torch.save({f"net.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "twice.pt")
    load_weights(model, tmp_path / "twice.pt")


def test_a_head_for_other_classes_stays_new_where_that_is_allowed(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    model = create_model("digits_resnet", num_classes=3, seed=2)
    head = model.linear.weight.clone()
    with pytest.raises(CheckpointError, match=r"linear.weight \(10, 64\) instead of \(3, 64\).* with --classes"):
        load_weights(model, tmp_path / "w.pt")
    assert load_weights(model, tmp_path / "w.pt", replace_head=True) == ("linear",)
    assert torch.equal(model.linear.weight, head)
    assert torch.equal(model.conv1.weight, trained.conv1.weight)


def test_other_differences_than_the_classes_are_no_new_head(tmp_path, trained):
    state = {**trained.state_dict(), "conv1.weight": torch.zeros(16, 1, 5, 5)}
    torch.save(state, tmp_path / "w.pt")
    model = create_model("digits_resnet", num_classes=3)
    with pytest.raises(CheckpointError, match=r"conv1.weight \(16, 1, 5, 5\) instead of"):
        load_weights(model, tmp_path / "w.pt", replace_head=True)


def test_the_first_keys_that_do_not_fit_are_named(tmp_path, trained):
    state = trained.state_dict()
    state["extra.weight"] = torch.zeros(1)
    del state["conv1.weight"]
    state["linear.weight"] = torch.zeros(7, 64)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError) as caught:
        load_weights(trained, tmp_path / "w.pt")
    message = str(caught.value)
    assert "missing: conv1.weight" in message
    assert "unexpected: extra.weight" in message
    assert "linear.weight (7, 64) instead of (10, 64)" in message


def test_long_lists_are_cut(tmp_path, trained):
    torch.save({}, tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match=r"missing: (\S+, ){3}\S+ and \d+ more"):
        load_weights(trained, tmp_path / "empty.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_and_change_nothing(tmp_path, trained, value):
    state = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    torch.save(state, tmp_path / "w.pt")
    before = trained.linear.weight.clone()
    with pytest.raises(ModelError, match=r"layer2\.0\.conv1\.weight"):
        load_weights(trained, tmp_path / "w.pt")
    assert torch.equal(trained.linear.weight, before)
    assert torch.isfinite(trained.layer2[0].conv1.weight).all()
