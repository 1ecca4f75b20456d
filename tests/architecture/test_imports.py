"""Imports run one way, and `import amc` is light."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import amc

ROOT = Path(__file__).parents[2]
# Every part may import itself and the parts before it. A tuple holds parts that must not see each other.
ORDER = [
    ("amc.errors",),
    ("amc.utils",),
    ("amc.runtime",),
    ("amc.structure", "amc.models", "amc.data", "amc.packing", "amc.cluster"),
    ("amc.storage", "amc.tracing", "amc.costs", "amc.pruning"),
    ("amc.problem",),
    ("amc.training", "amc.latency", "envs", "agents"),
    ("amc.pipeline", "amc.export"),
    ("amc.report", "amc.bench", "amc.zoo"),
    ("amc.study", "amc.policies"),
    ("amc.cli",),
    ("amc.__main__",),
]
# The lazy front door: it names every part and imports none.
FRONT = "amc"


def part_of(module):
    """Returns the part that a module belongs to: the longest listed prefix."""
    parts = [part for level in ORDER for part in level]
    return max((part for part in parts if module == part or module.startswith(part + ".")), key=len, default=None)


def level_of(part):
    return next(index for index, level in enumerate(ORDER) if part in level)


@cache
def sources():
    files = sorted(file for package in ("amc", "envs", "agents") for file in (ROOT / package).rglob("*.py"))
    assert len(files) > 30
    return files


@cache
def tree_of(file):
    return ast.parse(file.read_text(encoding="utf-8"))


def module_name(file):
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(tree, *, types_too=True):
    """Yields the modules that a file imports, anywhere in it; those for annotations alone only with `types_too`."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if is_type_checking(node) and not types_too:
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending += list(ast.iter_child_nodes(node))


@pytest.mark.parametrize("file", sources(), ids=module_name)
def test_imports_run_downwards(file):
    name = module_name(file)
    if name == FRONT:
        return
    own = part_of(name)
    assert own is not None, f"{name} has no place in ORDER: give it one"
    # Annotations may name types of other parts: nothing is imported for them when the program runs.
    for module in imported(tree_of(file), types_too=False):
        other = part_of(module)
        if other is None or other == own:
            continue
        assert level_of(other) < level_of(own), f"{name} must not import {module}"


def test_the_page_on_the_architecture_shows_every_room_on_its_floor():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Rooms")[2].partition("\n## ")[0]
    shown, floor = {}, 0
    for number, rooms in re.findall(r"^\| *(\d*) *\|([^|]*)\|", table, flags=re.MULTILINE):
        floor = int(number or floor)
        shown |= dict.fromkeys(re.findall(r"`([\w.]+)`", rooms), floor)
    assert shown == {part: number for number, level in enumerate(ORDER, start=1) for part in level}


def test_agents_never_import_envs():
    for file in sources():
        if module_name(file).startswith("agents"):
            modules = list(imported(tree_of(file)))
            assert not [module for module in modules if module.startswith("envs")], file


def test_pictures_are_read_without_the_splits_that_they_fill():
    known = known_modules()
    for file in sources():
        name, others = module_name(file), {module for module in modules_imported(file) if module.startswith("amc.data")}
        if name.startswith("amc.data.reading."):
            above = others - {"amc.data.stratified", "amc.data.memory_share"}
            assert all(module.startswith("amc.data.reading.") for module in above), name
        elif name != "amc.data.load" and not name.startswith("amc.data.sources."):
            assert not any(module.startswith("amc.data.sources.") for module in others), name
    assert {"amc.data.reading.pictures", "amc.data.sources.datasets"} <= known


def test_nothing_lies_loose():
    loose = {file.name for file in (ROOT / "amc").glob("*.py")}
    assert loose == {"errors.py", "__init__.py", "__main__.py"}


@cache
def known_modules():
    return frozenset(module_name(source) for source in sources())


def modules_imported(file):
    """Returns the project's modules that a file imports, types included."""
    known = known_modules()
    found = set()
    for name in imported(tree_of(file)):
        found |= {name} if name in known else {name.rpartition(".")[0]} & known
    return found - {module_name(file), FRONT}


def test_no_two_modules_import_each_other():
    graph = import_graph()
    pairs = [(one, other) for one, others in graph.items() for other in others if one < other and one in graph[other]]
    assert not pairs


def cycles(graph):
    """Returns the strongly connected components of more than one module (Tarjan 1972), each sorted."""
    index, low, stack, found = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in index:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == index[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(sorted(component))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found


@cache
def import_graph():
    """Returns the modules that each module imports, the front door left out."""
    return {module_name(file): modules_imported(file) for file in sources() if module_name(file) != FRONT}


def test_no_modules_import_each_other_in_a_circle():
    assert cycles(import_graph()) == []


def test_a_circle_of_three_modules_would_be_found():
    graph = {"a": {"b"}, "b": {"c", "leaf"}, "c": {"a"}, "leaf": set(), "above": {"a"}}
    assert cycles(graph) == [["a", "b", "c"]]
    assert cycles({**graph, "c": {"leaf"}}) == []


def test_a_wrong_import_would_be_found():
    tree = ast.parse("def f():\n    from envs.rewards import Reward\n    import amc.costs.budget\n")
    assert sorted(imported(tree)) == ["amc.costs.budget", "envs.rewards.Reward"]
    assert part_of("amc.problem.score") == "amc.problem"
    assert level_of("amc.costs") == level_of("amc.pruning")


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_import_amc_loads_nothing_heavy():
    loaded = run_python("import sys, amc; dir(amc); print(' '.join(sys.modules))").split()
    heavy = {"torch", "stable_baselines3", "gymnasium", "numpy", "matplotlib", "torchvision"}
    assert "amc" in loaded
    assert not heavy & set(loaded)


def test_public_names_exist():
    assert [name for name in amc.__all__ if getattr(amc, name, None) is None] == []


def test_load_needs_no_search_machinery():
    loaded = run_python("import sys, amc; amc.load; print(' '.join(sys.modules))").split()
    assert "amc.storage.load" in loaded
    for name in ("stable_baselines3", "gymnasium", "envs", "agents", "amc.costs", "amc.pruning", "optuna", "cmaes"):
        assert name not in loaded, name


def test_a_command_begins_without_libraries_that_it_may_not_need():
    loaded = run_python("import sys, amc.cli.search, amc.pipeline.search; print(' '.join(sys.modules))").split()
    assert "torch" in loaded
    for name in ("scipy.stats", "scipy.optimize", "sklearn", "matplotlib", "torchvision", "stable_baselines3", "onnx"):
        assert name not in loaded, name


def test_public_names_survive_imports_of_submodules():
    modules = "amc, amc.cli.compress, amc.pipeline.compress, amc.storage.load"
    code = f"import {modules}; print(callable(amc.load), callable(amc.compress))"
    assert run_python(code).split() == ["True", "True"]


def test_no_public_name_is_also_a_module():
    public = run_python("import amc; print(' '.join(amc.__all__))").split()
    modules = {module_name(file) for file in sources()}
    assert not [name for name in public if f"amc.{name}" in modules]
