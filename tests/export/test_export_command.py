"""`amc export`, as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from amc.cli.main import main
from amc.export.comparison import Comparison, compare, latency_table
from amc.export.exporting import export_model
from amc.export.run_networks import open_run
from amc.models import create_model
from amc.pruning.masks import share_of_zeros
from amc.report.tables import render
from amc.runtime.latency import Latency
from amc.storage.architecture import describe
from amc.storage.load import load
from amc.storage.save import save_network
from amc.storage.source import ModelSource


def rows(text):
    """Returns the cells of the latency table."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


def run(*words):
    return main(["export", *map(str, words)])


def test_onnx_is_written_into_the_run_and_timed_beside_the_dense_network(run_folder, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    assert run(folder, "--batch_sizes", 1, 3, "--seconds", 0.2, "--device", "cpu", "--trust") == 0
    out, err = capsys.readouterr()
    assert (folder / "export" / "model.onnx").is_file()
    assert "model.onnx: onnx" in out
    assert "dense" in out
    assert "outputs equal PyTorch's" in out
    assert [row[:2] for row in rows(out)] == [
        ["PyTorch", "1"],
        ["PyTorch", "3"],
        ["onnxruntime", "1"],
        ["onnxruntime", "3"],
    ]
    assert all(" to " in row[2] and " to " in row[3] and row[4].endswith("x") for row in rows(out))
    assert "100 of 100 %" in err
    assert "Warning" not in err


def test_what_a_killed_export_left_is_removed_by_the_next(run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    left = folder / ".amc-export-killed"
    (left / "files").mkdir(parents=True)
    (left / ".lock").touch()
    (left / "files" / "model.onnx").write_text("half")
    assert run(folder, "--format", "safetensors", "--seconds", 0, "--trust") == 0
    assert not left.exists()
    assert (folder / "export").is_dir()


def test_an_export_that_is_interrupted_as_it_measures_says_that_the_file_is_whole(
    run_folder, tmp_path, monkeypatch, capsys
):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.export.comparison.compare", stop)
    assert run(run_folder, "--format", "safetensors", "--out", tmp_path / "net", "--trust") == 130
    line = f"amc: interrupted; {tmp_path / 'net'} is written and whole; only its latency was not measured"
    assert line in capsys.readouterr().err
    load(tmp_path / "net", trust=True)


@pytest.mark.heavy
def test_what_was_measured_is_kept_in_the_runs_summary(run_folder, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "summary.json").write_text('{"command": "compress"}')
    assert run(folder, "--batch_sizes", 1, "--seconds", 0.1, "--device", "cpu", "--trust") == 0
    assert run(folder, "--format", "safetensors", "--seconds", 0, "--trust") == 0
    capsys.readouterr()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["command"] == "compress"
    onnx, safetensors = summary["exports"]["onnx"], summary["exports"]["safetensors"]
    assert onnx["size_bytes"]["pruned"] == (folder / "export" / "model.onnx").stat().st_size
    assert onnx["size_bytes"]["dense"] > 0
    assert [entry["engine"] for entry in onnx["latency_ms"]] == ["PyTorch", "onnxruntime"]
    assert all(entry["pruned"]["median"] > 0 and entry["speed_up"] > 0 for entry in onnx["latency_ms"])
    assert safetensors["latency_ms"] == []


def test_without_a_summary_it_is_said_that_nothing_is_kept(run_folder, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "summary.json").unlink(missing_ok=True)
    assert run(folder, "--format", "safetensors", "--seconds", 0, "--trust") == 0
    assert "has no summary.json: what was measured is not kept" in capsys.readouterr().err


def test_safetensors_make_a_folder_that_loads(run_folder, tmp_path, capsys):
    assert run(run_folder, "--format", "safetensors", "--out", tmp_path / "net", "--seconds", 0, "--trust") == 0
    assert rows(capsys.readouterr().out) == []
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(load(tmp_path / "net", trust=True)(x), load(run_folder, trust=True)(x))


def test_a_network_that_cannot_be_built_again_is_exported_without_its_dense_twin(tmp_path, capsys, monkeypatch):
    # The user's own code: it wants a file that is gone when the dense network is built for the second time.
    (tmp_path / "once_only.py").write_text(
        "import pathlib, torch\n"
        "def build():\n"
        "    pathlib.Path('ticket').unlink()\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ticket").touch()
    model = create_model("once_only:build")
    (tmp_path / "run").mkdir()
    save_network(tmp_path / "run", model, describe(model, None, {}, ModelSource("name", "once_only:build")))
    (tmp_path / "ticket").touch()
    words = (
        tmp_path / "run",
        "--format",
        "torch_export",
        "--batch_sizes",
        2,
        "--seconds",
        0.1,
        "--input_shape",
        3,
        2,
        2,
        "--trust",
    )
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "cannot be rebuilt" in out
    assert [row[1:3] + row[4:] for row in rows(out)] == [["2", "-", "-"]]


@pytest.fixture
def unknown_input(tmp_path, monkeypatch):
    """A run of the user's own network that did not record its input."""
    (tmp_path / "own_net.py").write_text("import torch\ndef build():\n    return torch.nn.Linear(5, 2)\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    save_network(
        tmp_path / "run",
        torch.nn.Linear(5, 2),
        describe(torch.nn.Linear(5, 2), None, {}, ModelSource("name", "own_net:build")),
    )
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([], "give it without the batch axis, such as --input_shape 3 32 32"),
        (["--input_shape", "4"], "must run on the example input"),
        (["--input_shape", "0"], "must be positive numbers"),
    ],
)
def test_the_input_is_asked_for(unknown_input, shape, said, capsys):
    assert run(unknown_input, "--format", "torch_export", "--trust", *shape) == 2
    assert said in capsys.readouterr().err
    assert not (unknown_input / "export").exists()


def test_errors_are_one_line_and_come_first(run_folder, tmp_path, capsys):
    (tmp_path / "taken.onnx").touch()
    (tmp_path / "model.pt").touch()
    cases = {
        "did you mean 'onnx'": (run_folder, "--format", "onxx"),
        "exists already; give another --out, or --overwrite": (run_folder, "--out", tmp_path / "taken.onnx"),
        "architecture.json": (tmp_path,),
        "the run must be a folder": (tmp_path / "model.pt",),
        "did you mean '--format'": (run_folder, "--fromat", "onnx"),
        "--batch_sizes must be positive": (run_folder, "--batch_sizes", "0"),
        "device": (run_folder, "--device", "abacus"),
    }
    for said, words in cases.items():
        assert run(*words) == 2, said
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err
        assert err.startswith("amc: error: ")
        assert err.count("\n") == 1
    assert not (run_folder / "export").exists()


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"a": NaN}', "\udcff"])
@pytest.mark.parametrize("name", ["preprocessing.json", "summary.json"])
def test_records_that_are_none_are_one_line(run_folder, tmp_path, name, content, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / name).write_text(content, errors="surrogateescape")
    run(folder, "--format", "safetensors", "--seconds", 0, "--trust")
    error = capsys.readouterr().err
    assert f"{name} must " in error
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ["export", "export/safetensors"])
def test_nothing_is_exported_through_a_link_in_the_runs_folder(run_folder, tmp_path, name, capsys):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    shutil.copytree(run_folder, folder)
    elsewhere.mkdir()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(elsewhere)
    assert run(folder, "--format", "safetensors", "--seconds", 0, "--trust", "--overwrite") == 2
    assert f"{name} must lie in the folder itself, and is a link" in capsys.readouterr().err
    assert not list(elsewhere.iterdir())


@pytest.mark.heavy
@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_a_file_that_cannot_grow_is_told_in_one_line(tmp_path, format):
    resource = pytest.importorskip("resource")
    model = create_model("digits_resnet", seed=0)
    record = describe(model, None, {}, ModelSource("name", "digits_resnet"), example_input=torch.zeros(1, 1, 8, 8))
    save_network(tmp_path, model, record)
    words = ["export", str(tmp_path), "--format", format, "--seconds", "0", "--progress", "false"]
    ended = subprocess.run(  # a process of its own, as PyTorch has aborted it
        [sys.executable, "-m", "amc", *words],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("amc: error: the export must be writable: ")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "export").exists()


def test_the_example_input_is_recorded(run_folder):
    record = json.loads((run_folder / "architecture.json").read_text())
    assert record["input"] == {"shape": [1, 3, 8, 8], "dtype": "float32"}


def test_an_input_that_was_not_recorded_follows_from_the_networks_name(tmp_path):
    model = create_model("digits_resnet", seed=0)
    save_network(tmp_path, model, describe(model, None, {}, ModelSource("name", "digits_resnet")))
    networks = open_run(tmp_path)
    assert networks.example.shape == (1, 1, 8, 8)
    assert networks.dense is not None
    assert open_run(tmp_path, (1, 16, 16)).example.shape == (1, 1, 16, 16)


def comparison(dense_ms, pruned_ms):
    pair = {"dense": dense_ms, "pruned": pruned_ms}
    return Comparison(None, {"PyTorch": [Latency(name, 8, ms, ms, ms, (ms,)) for name, ms in pair.items()]})


def test_writing_the_dense_network_is_a_part_of_the_work(run_folder, tmp_path):
    networks, shares = open_run(run_folder, trust=True), []
    report = export_model(networks.pruned, tmp_path / "net.onnx", "onnx", networks.example)
    compare(networks, report, batch_sizes=(1,), max_seconds=0.1, advance=lambda share, note="", /: shares.append(share))
    assert shares[0] > 0.1, "the time left was told from the first measurement alone, and was 12 minutes for 14 s"
    assert shares == sorted(shares)


def test_a_network_that_is_not_faster_gets_a_hint():
    assert "multiples of 8 or 16; --budget.latency" in comparison(2.0, 2.5).hint
    assert comparison(2.5, 2.0).hint is None
    assert Comparison(None).hint is None


def test_the_hint_for_a_network_of_zeros_does_not_speak_of_widths():
    hint = replace(comparison(2.0, 2.5), zeros=0.9).hint
    assert "90% of the weights are zero" in hint
    assert "round_to" not in hint
    model = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.Linear(10, 10))
    torch.nn.init.zeros_(model[0].weight)
    assert share_of_zeros(model) == 0.5


def test_the_table_shows_medians_spread_and_speed_up():
    (row,) = rows(render(latency_table(comparison(2.5, 2.0))))
    assert row == ["PyTorch", "8", "2.5 (2.5 to 2.5)", "2 (2 to 2)", "1.25x"]
