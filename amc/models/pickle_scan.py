"""Predicts what reading a pickle would cost: calls that allocate whatever a number says, keys that take ages to hash.

PyTorch's reader runs no code of others, but it calls a few functions and classes with what the file gives them: a file
of a hundred bytes makes a `bytearray` of any size, or takes as a key a tuple that holds another one twice, which holds
another one twice, and so on, of which Python computes the hash without end.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import BinaryIO

from amc.utils.bounded_files import DamagedFileError

_REBUILT = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"}
_WITH_STATE = {"_rebuild_parameter_with_state"}
_CONTAINERS = {"OrderedDict", "Counter", "set", "Size"}
_PLAIN = {"complex", "device", "Parameter", "_get_layout"}
_OF_TYPE, _BYTES, _TEXT_AS_BYTES = "_rebuild_from_type_v2", "bytearray", "encode"
_MODULES = {"torch", "builtins", "__builtin__", "collections", "_codecs"}
"""The packages whose calls are checked; those of others PyTorch refuses, unless the user has allowed them."""
_LATIN = {"latin1", "latin-1"}
_MOST_HASHED, _TIMES = 10_000_000, 64
"""How many elements may be hashed: the first number for any file, and the second for each of its bytes."""
_LARGEST = 1 << 62
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE"}
_EMPTY = {"EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class _Value:
    """What an instruction leaves on the stack.

    Attributes:
        size: How many elements are visited when it is hashed or written out.
        text: A text, or the name of a function or class.
        module: Where that function or class is from; None for anything else.
        items: What a tuple holds.
    """

    size: int = 1
    text: str | None = None
    module: str | None = None
    items: tuple[_Value, ...] = ()


def check_pickle(file: BinaryIO, held: int) -> bool:
    """Checks one pickle, from where a file stands to the pickle's end.

    Args:
        file: The file.
        held: Its bytes.

    Returns:
        Whether the end was reached; what cannot be read, or has instructions that PyTorch does not know, is left to it.

    Raises:
        DamagedFileError: If it would take more memory or time than its size justifies.
    """
    machine = _Machine(_MOST_HASHED + _TIMES * held)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if not machine.step(opcode.name, argument):
                return False
    except DamagedFileError:
        raise
    except (ValueError, IndexError, KeyError):  # it ends early, or takes what is not there
        return False
    return True


class _Machine:
    """The stack of a pickle's instructions, with sizes in place of values."""

    def __init__(self, allowance: int) -> None:
        self._stack: list[_Value] = []
        self._below: list[list[_Value]] = []
        self._memo: dict[int, _Value] = {}
        self._left, self._longest = allowance, 1

    def step(self, name: str, argument: object) -> bool:
        """Carries out one instruction; returns whether it is known."""
        if name in _NUMBERS or name in _EMPTY:
            self._push(_Value())
        elif name in ("BINUNICODE", "SHORT_BINSTRING"):
            text = str(argument)
            self._push(_Value(1 + len(text) // 8, text))
        elif name == "GLOBAL":
            module, _, text = str(argument).partition(" ")
            self._push(_Value(1, text, module))
        elif name in ("BINGET", "LONG_BINGET"):
            self._push(self._memo[int(str(argument))])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[int(str(argument))] = self._stack[-1]
        elif name == "MARK":
            self._below.append(self._stack)
            self._stack = []
        elif name in _TUPLES or name == "TUPLE":
            self._tuple(self._popped(_TUPLES[name]) if name in _TUPLES else self._above_mark())
        else:
            return self._combine(name)
        return True

    def _combine(self, name: str) -> bool:
        """Carries out an instruction that puts values into others, or calls something."""
        if name in ("APPEND", "APPENDS"):
            self._add(self._popped(1) if name == "APPEND" else self._above_mark())
        elif name in ("SETITEM", "SETITEMS"):
            items = self._popped(2) if name == "SETITEM" else self._above_mark()
            self._hash(sum(key.size for key in items[::2]))
            self._add(items)
        elif name == "BUILD":
            self._hash(self._stack.pop().size)
        elif name in ("REDUCE", "NEWOBJ"):
            called, arguments = self._popped(2)
            self._check_call(called, arguments)
            is_text = called.text in (_BYTES, _TEXT_AS_BYTES)
            self._push(_Value(arguments.size, "" if is_text else None))
        elif name == "BINPERSID":
            self._stack[-1] = _Value()
        else:
            return name in ("PROTO", "STOP")
        return True

    def _check_call(self, called: _Value, arguments: _Value) -> None:
        """Rejects calls that make more than the file holds, or anything but plain tensors and containers."""
        name, given = called.text, arguments.items
        if called.module is None or called.module.partition(".")[0] not in _MODULES:
            return
        if name == _OF_TYPE:
            fits = bool(given) and given[0].module is not None and given[0].text in _REBUILT
        elif name == _BYTES:
            fits = not given or (given[0].text is not None and given[0].module is None)
        elif name == _TEXT_AS_BYTES:
            fits = len(given) == 2 and given[1].text in _LATIN
        else:
            fits = name in _REBUILT | _WITH_STATE | _CONTAINERS | _PLAIN
        if not fits:
            raise DamagedFileError(f"it makes something else by {called.module}.{name}")
        if name in _CONTAINERS and given:
            self._hash(arguments.size * self._longest)

    def _hash(self, elements: int) -> None:
        self._left -= elements
        if self._left < 0:
            raise DamagedFileError("its names take longer to compare than its size justifies")

    def _tuple(self, items: list[_Value]) -> None:
        value = _Value(1 + sum(item.size for item in items), items=tuple(items))
        self._push(value)
        self._longest = max(self._longest, value.size)

    def _add(self, items: list[_Value]) -> None:
        """Puts values into the list or mapping on top of the stack."""
        held = self._stack[-1]
        held.size = min(_LARGEST, held.size + sum(item.size for item in items))

    def _push(self, value: _Value) -> None:
        value.size = min(_LARGEST, value.size)
        self._stack.append(value)

    def _popped(self, count: int) -> list[_Value]:
        items = [self._stack.pop() for _ in range(count)]
        return items[::-1]

    def _above_mark(self) -> list[_Value]:
        """Returns what stands above the last mark, and takes it away."""
        items, self._stack = self._stack, self._below.pop()
        return items
