"""What is committed holds no trace of one machine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Written in pieces, so that this file does not match itself.
REGISTRY = re.compile(
    "|".join(("py" + r"pi\.org", "files.python" + "hosted", "download.py" + r"torch\.org", "--index" + "-url"))
)


def committed_files():
    try:
        listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.splitlines() if (ROOT / name).is_file()]


def test_no_registry_is_named():
    for file in committed_files():
        found = REGISTRY.search(file.read_bytes().decode("utf-8", errors="ignore"))
        assert found is None, f"{file} names a package registry: {found.group()}"


def test_no_lock_file():
    assert not [file for file in committed_files() if file.name.endswith(".lock")]
