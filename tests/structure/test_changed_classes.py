"""Modules that run code with other numbers: what is a number in code, what may be set, and what their classes stay."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from torch import nn

from amc.errors import CheckpointError, StructureError
from amc.storage.fit import check_attributes
from amc.structure.claimed_width import CLAIMED, claim_width, release_width
from amc.structure.numbers_in_code import numbers_in_code, set_number_in_code


class Tutorial(nn.Module):
    """The part of PyTorch's tutorial that has a width in its code."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5)

    def forward(self, x):
        return self.conv1(x).view(-1, 16 * 5 * 5)


def test_constant_expressions_count_as_one_number_and_others_in_their_order():
    class Counting(nn.Module):
        def forward(self, x, width=77):
            """Text with 12."""
            y: list[9] = x.view(-1, 2 * (3 + 4) ** 2, 5 // 0 if x is None else 6)
            return y[:, -7:, True], 1.5, [x + 8 for _ in range(2**70)], f"{11}"

    values = [int(name.partition("=")[2]) for name, _ in numbers_in_code(Counting())]
    assert values == [1, 98, 5, 0, 6, 7, 8, 2, 70, 11]


EDITS = {
    "another number": ("", "forward()[1]=401", 3),
    "another place": ("", "forward()[0]=400", 3),
    "no place": ("", "forward()[99]=400", 3),
    "no method": ("", "backward()[1]=400", 3),
    "not reached": ("", "__init__()[0]=3", 3),
    "a special method": ("", "__reduce_ex__()[0]=3", 3),
    "a method of PyTorch": ("", "train()[0]=1", 1),
    "a call": ("", "super().__init__()[0]=3", 3),
    "code": ("", "__import__('os')()[0]=3", 3),
    "no module": ("missing", "forward()[1]=400", 3),
    "a layer": ("conv1", "forward()[1]=400", 3),
    "larger": ("", "forward()[1]=400", 401),
    "huge": ("", "forward()[1]=400", 1 << 60),
    "nothing": ("", "forward()[1]=400", 0),
    "negative": ("", "forward()[1]=400", -400),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_sets_no_other_numbers_in_code(edit):
    check_attributes(Tutorial(), [("", "forward()[1]=400", 300)])
    with pytest.raises(CheckpointError, match="must set numbers that stand in the code of the network, none larger"):
        check_attributes(Tutorial(), [EDITS[edit]])


def test_a_pickle_of_code_that_was_edited_since_is_refused():
    with pytest.raises(StructureError, match=r"the code of Tutorial has no forward\(\)\[1\]=500"):
        set_number_in_code(Tutorial(), "forward()[1]=500", 5)


def test_a_module_claims_a_width_and_has_numbers_at_once():
    class Both(nn.Module):
        def forward(self, x):
            return x.shape[-1] * 100 + 50

    module = Both()
    claim_width(module, 3)
    set_number_in_code(module, "forward()[2]=50", 7)
    for again in (module, copy.deepcopy(module)):
        assert again(torch.zeros(2, 5)) == 307
        assert getattr(again, CLAIMED) == 3
    release_width(module)
    assert module(torch.zeros(2, 5)) == 507


class Register(type):
    """A metaclass that keeps a table of classes."""

    held: ClassVar[dict[str, type]] = {}

    def __new__(cls, name, bases, members, **kwargs):
        cls.held[name] = super().__new__(cls, name, bases, members, **kwargs)
        return cls.held[name]


class Announced(nn.Module, metaclass=Register):
    """Networks are entered in a table, under a tag that they must give."""

    tags: ClassVar[dict[str, type]] = {}

    def __init_subclass__(cls, *, tag):
        Announced.tags[tag] = cls


class Tagged(Announced, tag="tagged"):
    __slots__ = ()

    def forward(self, x):
        return x * 7


class Slotted(nn.Module):
    __slots__ = ("held",)

    def forward(self, x):
        return x * 7


def test_changed_classes_are_not_entered_in_tables_of_networks():
    module = Tagged()
    set_number_in_code(module, "forward()[0]=7", 3)
    claim_width(module, 3)
    assert module(1) == 3
    assert (Register.held["Tagged"], Announced.tags["tagged"]) == (Tagged, Tagged)


def test_a_module_with_slots_has_numbers_too():
    module = Slotted()
    set_number_in_code(module, "forward()[0]=7", 3)
    assert module(1) == 3


def test_code_with_asserts_that_pytest_rewrote_is_no_error():
    class Asserting(nn.Module):
        def forward(self, x):
            assert x
            return x * 7

    assert list(numbers_in_code(Asserting())) == []
