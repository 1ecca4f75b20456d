"""The wheel holds everything that a run needs, and works from an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("setuptools", minversion="68")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Builds the wheel and unpacks it, as pip would."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"  # setuptools leaves a folder behind where it builds
    for name in ("amc", "envs", "agents", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(place / "wheels"), str(source))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *build], check=True, capture_output=True, timeout=300)
    (wheel,) = (place / "wheels").glob("*.whl")
    assert wheel.name.startswith("amc_compress-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


@pytest.mark.slow
def test_the_wheel_holds_data_and_types(installed):
    configs = {file.name for file in (ROOT / "configs").glob("*.yaml")}
    assert {file.name for file in (installed / "configs").glob("*.yaml")} == configs
    for name in ("amc/py.typed", "envs/py.typed", "agents/py.typed", "amc/report/templates/page.html.j2"):
        assert (installed / name).is_file(), name
    assert not (installed / "tests").exists()


@pytest.mark.slow
def test_the_wheel_runs_from_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    words = ["compress", "--config", "cifar10_resnet56", "--print_config"]
    done = subprocess.run(
        [sys.executable, "-m", "amc", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "model: resnet56" in done.stdout


@pytest.mark.slow
def test_the_default_run_of_the_wheel_works_in_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "amc", "compress", "--out", "mine"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "budget 50.0% of the FLOPs" in done.stdout
    assert {"model.safetensors", "README.md", "report.html"} <= {file.name for file in (tmp_path / "mine").iterdir()}
