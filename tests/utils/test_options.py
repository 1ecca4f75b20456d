"""Choices by name: one way to write them, everywhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amc.errors import ConfigurationError, UnknownNameError
from amc.utils.conversion import convert
from amc.utils.options import Choice, choose, create, options_of, spell
from amc.utils.registry import Registry

TOOLS = Registry("tool", "amc.tests")


@dataclass(frozen=True)
class Saw:
    """Cuts.

    Attributes:
        teeth: Number of teeth.
        blades: Names of
            the blades.
        sharp: Whether it cuts.
    """

    teeth: int = 12
    blades: tuple[str, ...] = ()
    sharp: bool = True


class Drill:
    """Bores holes."""

    def __init__(self, width: float) -> None:
        """Takes the bit.

        Args:
            width: Millimetres.
        """
        self.width = width


def anything(**options):
    return options


TOOLS.register("saw", Saw, "cuts")
TOOLS.register("drill", Drill, "bores")
TOOLS.register("any", anything)


@pytest.mark.parametrize(
    "chosen",
    [
        "saw:teeth=7;blades=[a, b];sharp=false",
        "saw: teeth = 7 ; blades = [a, b]; sharp = no;",
        {"name": "saw", "teeth": 7, "blades": ["a", "b"], "sharp": False},
        Choice("saw", {"teeth": 7, "blades": ("a", "b"), "sharp": False}).__str__(),
    ],
)
def test_every_way_to_write_a_choice_makes_the_same(chosen):
    assert create(TOOLS, chosen) == Saw(7, ("a", "b"), sharp=False)
    assert spell(TOOLS, chosen) == 'saw:teeth=7;blades=["a", "b"];sharp=false'


def test_keyword_arguments_are_options_too():
    assert create(TOOLS, "saw", teeth=7) == Saw(7)
    assert create(TOOLS, "saw:teeth=8;sharp=false", teeth=7) == Saw(7, sharp=False)


def test_whole_numbers_do_for_numbers_and_exponents_are_numbers():
    assert create(TOOLS, "drill:width=2").width == 2.0
    assert create(TOOLS, "drill:width=1e-3").width == 1e-3


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("sow", "unknown tool 'sow'; did you mean 'saw'"),
        ("saw:tooth=3", "tool 'saw' has no option 'tooth'; did you mean 'teeth'"),
        ("saw:teeth=3.5", "saw: teeth must be a whole number, not 3.5"),
        ("saw:teeth", "the options of a tool must read KEY=VALUE, not 'teeth' .in 'saw:teeth'"),
        ("saw:teeth=[", "must be a YAML value"),
        ("drill", "tool 'drill' needs the option 'width': drill:width=VALUE"),
        (5, "the tool must be a name, or a mapping with name and options, not 5"),
        ({"teeth": 3}, "the tool must have a name and options by name"),
        ({"name": "saw", 3: 3}, "the tool must have a name and options by name"),
        ("nowhere:Saw:teeth=3", "cannot import 'nowhere'"),
    ],
)
def test_wrong_choices_are_refused_with_a_remedy(chosen, message):
    with pytest.raises(ConfigurationError, match=message):
        create(TOOLS, chosen)


def test_code_of_the_users_own_takes_options():
    assert choose(TOOLS, "package.module:Saw:teeth=3") == Choice("package.module:Saw", {"teeth": 3})
    assert choose(TOOLS, "package.module:Saw") == Choice("package.module:Saw")
    assert create(TOOLS, "fractions:Fraction:numerator=3") == 3
    with pytest.raises(ConfigurationError, match="the tool 'math:pi' must be a class or a function, not 3"):
        create(TOOLS, "math:pi")


def test_options_are_explained_by_docstrings():
    assert [(option.name, option.default, option.summary) for option in options_of(TOOLS, "saw")] == [
        ("teeth", 12, "Number of teeth."),
        ("blades", (), "Names of the blades."),
        ("sharp", True, "Whether it cuts."),
    ]
    assert [(option.name, option.summary) for option in options_of(TOOLS, "drill")] == [("width", "Millimetres.")]
    assert options_of(TOOLS, "any") == []
    with pytest.raises(UnknownNameError, match="did you mean 'saw'"):
        options_of(TOOLS, "sew")


_PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.from_regex(r"[a-z_]\w{0,5}", fullmatch=True), _PLAIN | st.lists(_PLAIN), max_size=4))
def test_what_is_written_is_read_back(options):
    options.pop("name", None)
    choice = choose(TOOLS, spell(TOOLS, {"name": "any", **options}))
    numbers = {name: float(value) if is_exponent(value) else value for name, value in choice.options.items()}
    for name, value in options.items():
        if not isinstance(value, list):
            assert value in (numbers[name], choice.options[name])  # a text may read like a number
    assert spell(TOOLS, {"name": "any", **choice.options}) == str(choice)


def is_exponent(value):
    """YAML reads 1e-05 as text; options of type float take it for the number."""
    try:
        return isinstance(value, str) and float(value) is not None and yaml.safe_load(f"[{value}]") == [value]
    except (ValueError, yaml.YAMLError):
        return False


def test_what_cannot_be_written_is_refused():
    with pytest.raises(ConfigurationError, match="must be text, a number, true or false, or a list"):
        spell(TOOLS, {"name": "any", "depth": object()})


class Typed:
    """Has options of composed types."""

    def __init__(self, bounds: Mapping[str, tuple[float, float]], names: Sequence[str] = ()) -> None:
        self.bounds, self.names = bounds, names


def test_mappings_and_pairs_are_converted():
    found = Registry("tool")
    found.register("typed", Typed)
    assert create(found, "typed:bounds={a: [0, 1]}").bounds == {"a": (0.0, 1.0)}
    for wrong, message in (
        ("{a: [0]}", "bounds of a must have 2 values"),
        ("{a: [0, b]}", "must be a number, not 'b'"),
        ("{1: [0, 1]}", "each name in typed: bounds must be text, not 1"),
        ("[0, 1]", "bounds must be values by name such as {a: 1}"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            create(found, f"typed:bounds={wrong}")


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), ("2.E2", 200.0), (".5e1", 5.0), ("-1.25e+2", -125.0)])
def test_exponents_are_numbers(text, number):
    assert convert(float, text, "rate") == number


def test_a_long_row_of_digits_is_refused_at_once():
    start = time.process_time()
    with pytest.raises(ConfigurationError, match="rate must be a number, not '111"):
        convert(float, "1" * 20_000, "rate")
    assert time.process_time() - start < 1
