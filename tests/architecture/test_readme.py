"""The README's commands are those that are tried."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ci_runs_the_readme_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    command = re.search(r'^test_command="(.+)"$', script, re.MULTILINE)
    assert command is not None
    assert command.group(1) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_adds_the_tests_that_the_default_suite_leaves_to_it():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r'^pytest .*-m "heavy and not slow', script, re.MULTILINE)
