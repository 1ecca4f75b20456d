"""Files of tensors are sealed: what is not as it was written is noticed, and files of other tools are read."""

import pytest
import torch
from safetensors.torch import save_file

from amc.errors import CheckpointError
from amc.models.weights import read_state_dict
from amc.storage.save import save_weights
from amc.utils.sealed_tensors import read_sealed, seal


def test_every_byte_of_the_tensors_is_sealed(tmp_path):
    file = tmp_path / "w.safetensors"
    model = torch.nn.Linear(3, 2)
    save_weights(file, model)
    assert torch.equal(read_state_dict(file)["weight"], model.weight)
    content = bytearray(file.read_bytes())
    start = len(content) - 4 * 8
    for place in range(start, len(content)):
        damaged = content.copy()
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"w\.safetensors must hold the tensors that it was written with"):
            read_state_dict(file)


def test_files_of_other_tools_are_read(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    save_file({"x": torch.ones(2)}, tmp_path / "y.safetensors")
    for name in ("x", "y"):
        assert torch.equal(read_sealed(str(tmp_path / f"{name}.safetensors"))["x"], torch.ones(2))


def test_the_seal_does_not_depend_on_the_order():
    tensors = {"a": torch.ones(2), "b": torch.zeros(0), "c": torch.tensor([1, 2])}
    assert seal(tensors) == seal(dict(reversed(tensors.items())))
    assert seal(tensors) != seal({**tensors, "c": torch.tensor([1, 3])})
