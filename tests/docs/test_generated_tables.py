"""The tables of pages are those that a script makes from committed files."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from amc.cli.study_entries import read_problems
from amc.pipeline.config import RunConfig, as_mapping
from amc.study.page import study_records
from amc.study.problems import StudyPlan, problem_folders

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/comparison/README.md"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("comparison_tables", ROOT / "docs" / "comparison" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_a_page_are_what_the_script_makes(script, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert script.BLOCK.search(text)
    assert script.filled(text) == text, f"run python docs/comparison/tables.py {' '.join(PAGES)}"


def test_a_figure_that_was_typed_by_hand_is_replaced(script):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "**91.71**" in text
    assert script.filled(text.replace("**91.71**", "**92.71**")) == text


def test_a_table_that_nothing_makes_is_named(script):
    with pytest.raises(SystemExit, match="no table 'lead'; there are first run, resnet56, leads"):
        script.filled("<!-- table: lead -->\n<!-- end of table -->")


def test_the_comparison_was_run_as_its_file_of_problems_says():
    folder = ROOT / "docs" / "comparison"
    options = Namespace(problems=str(folder / "problems.yaml"), words=[])
    problems = {p.name: p for p in read_problems(RunConfig(device="cpu"), StudyPlan(("uniform",)), options)}
    for name, place in problem_folders(folder / "studies"):
        rules = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
        given, plan = as_mapping(problems[name].config), problems[name].plan
        for option in ("model", "weights", "data", "train", "finetune", "first_images", "allocation_mode", "seed"):
            own, kept = _plain(given[option]), rules[option]
            if isinstance(kept, dict):  # options that came later are not in it
                own = {key: own[key] for key in kept}
            assert own == kept, f"{name}: {option}"
        records = study_records(place)
        played = {(r["agent"], r["budget"], r["metric"], r["finetuned"] is not None) for r in records}
        budgets = {(budget, plan.metric, budget in plan.finetuned) for budget in plan.budgets}
        assert played == {(agent, *budget) for agent in plan.agents for budget in budgets}, name


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
