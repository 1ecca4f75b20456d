"""`amc study --variations`: one study per method and seed, and a table of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc.cli.config_files import read_yaml
from amc.cli.consent import check_consent, check_download
from amc.cli.spelling import read_spellings
from amc.errors import ConfigurationError
from amc.pipeline.config import RunConfig, as_mapping

if TYPE_CHECKING:
    import jsonargparse

    from amc.data import DataRoles
    from amc.study.variations import Variation

PlayStudy = Callable[[RunConfig, Path, "DataRoles", str], object]
"""Plays one study: options, folder, data, and who plays."""


def play_variations(config: RunConfig, folder: Path, options: jsonargparse.Namespace, play: PlayStudy) -> str:
    """Plays the study of every variation, all with one seed before any with the next.

    Args:
        config: The options that all have in common.
        folder: Where their folders are.
        options: The parsed options.
        play: Plays one study.

    Returns:
        The table of methods.

    Raises:
        AmcError: If the file, an option, the data or a network cannot be used.
    """
    from amc.cli.setup import display, load_roles
    from amc.storage.names import DENSE, STUDY
    from amc.study.methods_table import methods_table

    variations = _read(config, Path(options.variations), options)
    networks: dict[str, Path] = {}
    shown = display(options)
    for seed in options.seeds:
        data: dict[Any, DataRoles] = {}
        for number, variation in enumerate(variations):
            own, place = variation.seeded(seed), folder / variation.folder(seed)
            shown.say(f"{variation.name}, seed {seed} ({number + 1} of {len(variations)})")
            if own.data not in data:
                data = {own.data: load_roles(own.data, seed, shown)}
            trained = networks.setdefault(_training_of(own), place / DENSE)
            _share(trained, place / DENSE)
            play(own, place, data[own.data], str(own.agent))
    files = [folder / variation.folder(seed) / STUDY for variation in variations for seed in options.seeds]
    return methods_table(files)


def _read(config: RunConfig, file: Path, options: jsonargparse.Namespace) -> list[Variation]:
    """Reads the variations; what code they name runs only with consent."""
    from amc.cli.consent import WORDS
    from amc.study.variations import variations_of

    written = read_yaml(file)
    for name, differing in written.items():  # the names are the file's own: none of them says what an option is
        check_consent(file, differing if isinstance(differing, dict) else {name: differing}, options[WORDS])
        check_download(file, differing if isinstance(differing, dict) else {}, options[WORDS])
    sections = {
        name: read_spellings(differing) if isinstance(differing, dict) else differing
        for name, differing in written.items()
    }
    try:
        return variations_of(config, sections)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def _training_of(config: RunConfig) -> str:
    """Returns what decides what the dense network is, as text."""
    record = as_mapping(replace(config, agent="uniform"))
    names = ("model", "weights", "classes", "train_first", "data", "train", "seed", "device")
    return json.dumps({name: record[name] for name in names}, sort_keys=True, default=str)


def _share(trained: Path, place: Path) -> None:
    """Puts a dense network that another variation has trained where a study looks for its own."""
    from amc.utils.durable_files import replacing

    if trained == place or not trained.is_file() or place.is_file():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as partial:
        partial.write_bytes(trained.read_bytes())
