"""`amc study --variations`: one study per method and seed, and a table of all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc.cli.study_entries import found_in, read_variations
from amc.pipeline.config import RunConfig

if TYPE_CHECKING:
    import jsonargparse

    from amc.data import DataRoles
    from amc.utils.progress_display import ProgressDisplay

PlayStudy = Callable[[RunConfig, Path, "DataRoles", str], object]
"""Runs one study: options, folder, data, and the agents."""


def play_variations(
    config: RunConfig, folder: Path, options: jsonargparse.Namespace, shown: ProgressDisplay, play: PlayStudy
) -> str:
    """Runs the study of every variation, seed by seed.

    Args:
        config: The options that all share.
        folder: Where their folders are.
        options: The parsed options.
        shown: Shows the progress.
        play: Runs one study.

    Returns:
        The table of methods.

    Raises:
        AmcError: If the file, an option, the data or a network cannot be used.
    """
    from amc.cli.setup import load_roles
    from amc.cli.study_agents import check_choices, plan_of
    from amc.storage.names import STUDY
    from amc.study.methods_table import methods_table
    from amc.study.shared_network import SharedNetworks
    from amc.utils.folder_lock import refuse_links

    variations = read_variations(config, options)
    for variation in variations:
        with found_in(options.variations, f"the variation {variation.name!r}"):
            check_choices(variation.config, replace(plan_of(options), agents=(str(variation.config.agent),)))
    refuse_links(folder, (variation.folder(seed) for variation in variations for seed in options.seeds))
    networks = SharedNetworks()
    count, studies = len(variations) * len(options.seeds), itertools.count(1)
    for seed in options.seeds:
        data: dict[Any, DataRoles] = {}
        for variation in variations:
            own, place = variation.seeded(seed), folder / variation.folder(seed)
            shown.say(f"{variation.name}, seed {seed} ({next(studies)} of {count})")
            if own.data not in data:
                data = {own.data: load_roles(own.data, seed, shown)}
            networks.share(own, place)
            play(own, place, data[own.data], str(own.agent))
    files = [folder / variation.folder(seed) / STUDY for variation in variations for seed in options.seeds]
    return methods_table(files)
