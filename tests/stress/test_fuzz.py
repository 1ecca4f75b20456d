"""Mutants of real files: each reader makes a result of them, or one of the project's errors."""

import random
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from agent_readers import AGENT_READERS
from command_readers import COMMAND_READERS
from data_readers import DATA_READERS
from readers import READERS, fresh
from study_readers import STUDY_READERS

from amc.errors import AmcError

QUICK_READERS = (*READERS, *AGENT_READERS, *DATA_READERS, *STUDY_READERS)
QUICK = 12
"""Mutants of each reader in the default suite: half a minute in all. `fuzz.py` tries ten thousand."""
MANY = 200
"""Mutants of readers that take a millisecond."""
SMALL_FILES = ("agent.json by policy show", "profile.json by --profile", "environment.json by --resume")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """The real files of each reader, made when they are first asked for."""
    made = {}

    def corpus(reader):
        if reader.name not in made:
            folder = tmp_path_factory.mktemp("corpus")
            made[reader.name] = folder, reader.prepare(folder).relative_to(folder)
        return made[reader.name]

    return corpus


@pytest.mark.parametrize("reader", QUICK_READERS, ids=lambda reader: reader.name)
def test_the_real_files_are_read(reader, corpora, tmp_path):
    folder, _ = corpora(reader)
    fresh(folder, tmp_path / "real")
    reader.read(tmp_path / "real")


def attack(reader, corpora, tmp_path_factory, seed):
    """Feeds one mutant to a reader, which must read or refuse it."""
    folder, file = corpora(reader)
    place = tmp_path_factory.mktemp("mutant") / "files"
    fresh(folder, place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader.mutate(place / file, random.Random(seed))
        with suppress(AmcError):
            reader.read(place)


@pytest.mark.parametrize("reader", QUICK_READERS, ids=lambda reader: reader.name)
@settings(max_examples=QUICK, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_mutants_are_read_or_refused(reader, corpora, tmp_path_factory, seed):
    attack(reader, corpora, tmp_path_factory, seed)


@pytest.mark.parametrize("name", SMALL_FILES)
@settings(max_examples=MANY, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_many_mutants_of_small_files_are_read_or_refused(name, corpora, tmp_path_factory, seed):
    reader = next(reader for reader in READERS if reader.name == name)
    attack(reader, corpora, tmp_path_factory, seed)


@pytest.mark.slow
def test_ten_thousand_mutants_of_each_reader():
    script = Path(__file__).with_name("fuzz.py")
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("reader", COMMAND_READERS, ids=lambda reader: reader.name)
def test_commands_read_real_files_and_refuse_the_rest(reader, tmp_path):
    (tmp_path / "corpus").mkdir()
    file = reader.prepare(tmp_path / "corpus").relative_to(tmp_path / "corpus")
    fresh(tmp_path / "corpus", tmp_path / "real")
    reader.read(tmp_path / "real")
    for seed in range(3):
        place = tmp_path / str(seed)
        fresh(tmp_path / "corpus", place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.mutate(place / file, random.Random(seed))
            with suppress(AmcError):
                reader.read(place)
