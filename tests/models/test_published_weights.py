"""The weights that torchvision and timm publish: taken from the caches, fetched only where that is asked for."""

from __future__ import annotations

import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import SqueezeNet1_1_Weights

from amc.cli.main import main
from amc.errors import CheckpointError, ConfigurationError
from amc.models import create_model
from amc.models.published import own_weights

FILE = "squeezenet1_1-b8a52dc0.pth"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def refuse(*arguments, **options):
    pytest.fail("nothing may be fetched unless it is asked for")


def test_weights_that_are_not_here_are_not_fetched_unasked(cache, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    message = r"SqueezeNet1_1_Weights\.IMAGENET1K_V1 of torchvision must be on this machine.*--weights\.download true"
    with pytest.raises(CheckpointError, match=message):
        own_weights("squeezenet1_1", download=False)


def test_weights_in_the_cache_are_named_and_not_fetched(cache, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    cache.mkdir(parents=True)
    (cache / FILE).touch()
    file, title = own_weights("torchvision:squeezenet1_1", download=True)
    assert file == cache / FILE
    assert "SqueezeNet1_1_Weights.IMAGENET1K_V1" in title


def test_weights_are_fetched_where_it_is_asked_for_and_their_digest_is_checked(cache, monkeypatch):
    asked = []

    def fetch(url, target, hash_prefix, progress):
        asked.append((url, hash_prefix))
        torch.save({}, target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    file, title = own_weights("squeezenet1_1", download=True)
    assert file.is_file()
    assert "fetched" in title
    assert asked == [(SqueezeNet1_1_Weights.DEFAULT.url, "b8a52dc0")]


def test_a_failure_to_fetch_says_where_the_file_would_do(cache, monkeypatch):
    def fail(*arguments, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(CheckpointError, match=rf"cannot be fetched: URLError: .*put the file at .*{FILE} yourself"):
        own_weights("squeezenet1_1", download=True)


@pytest.mark.parametrize("name", ["resnet20", "torch.nn:Identity"])
def test_networks_without_published_weights_say_so(name):
    with pytest.raises(ConfigurationError, match="no published weights for --weights DEFAULT; give a file"):
        own_weights(name, download=True)


def test_networks_that_read_images_in_another_way_with_their_weights_are_refused():
    with pytest.raises(ConfigurationError, match="reads images in another way"):
        own_weights("googlenet", download=True)


def test_weights_of_timm_come_from_the_cache_of_hugging_face(tmp_path, monkeypatch):
    pytest.importorskip("timm")
    import huggingface_hub.constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"resnet18\.a1_in1k of timm must be on this machine"):
        own_weights("timm:resnet18", download=False)
    snapshot = tmp_path / "models--timm--resnet18.a1_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    save_file({"x": torch.zeros(1)}, snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, name: _cached(tmp_path, repo, name))
    file, title = own_weights("timm:resnet18", download=False)
    assert file == snapshot / "model.safetensors"
    assert "resnet18.a1_in1k of timm" in title


def _cached(folder, repository, name):
    """Looks into a cache that is not the one that the library was imported with."""
    from huggingface_hub.file_download import try_to_load_from_cache

    return try_to_load_from_cache(repository, name, cache_dir=folder)


def test_the_command_line_loads_them(cache, capsys):
    cache.mkdir(parents=True)
    torch.save(create_model("squeezenet1_1", seed=0).state_dict(), cache / FILE)
    words = ["inspect", "--model", "squeezenet1_1", "--shape", "3,64,64", "--weights", "DEFAULT"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert f"weights: SqueezeNet1_1_Weights.IMAGENET1K_V1 of torchvision, {cache / FILE}" in captured.err
    torch.save({"classifier.1.bias": torch.zeros(3)}, cache / FILE)
    assert main(words) == 2
    assert "does not fit" in capsys.readouterr().err


def test_a_file_cannot_ask_for_a_download(cache, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    (tmp_path / "run.yaml").write_text("weights: DEFAULT\nmodel: squeezenet1_1\ndownload_weights: true\n")
    assert main(["inspect", "--config", str(tmp_path / "run.yaml")]) == 2
    assert "unknown option 'download_weights'" in capsys.readouterr().err
