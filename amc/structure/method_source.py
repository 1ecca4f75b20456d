"""The source of a method: the whole numbers in it, and the same method with other numbers.

Constant expressions such as `16 * 5 * 5` count as one number. A method whose source is not at hand, or does not compile
to the code that runs (it is decorated, or was edited since), is not read.
"""

from __future__ import annotations

import ast
import copy
import inspect
import operator
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from weakref import WeakKeyDictionary

_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
_LARGEST, _LARGEST_EXPONENT = 1 << 31, 31
_NOT_RUN = ("annotation", "returns", "pattern", "decorator_list", "args")
"""Parts of the tree of a function that its body does not compute, or that must be numbers."""
_FUTURES, _NESTED = 0x1FF0000, 0x10
"""Flags of a code object: what was imported from `__future__`; whether it lies within another function."""


@dataclass(frozen=True)
class Number:
    """A number in the source.

    Attributes:
        value: Its value.
        lines: First and last line of the statement that it is a part of.
    """

    value: int
    lines: tuple[int, int]


@dataclass(frozen=True)
class MethodSource:
    """The source of a method.

    Attributes:
        tree: Its syntax tree, with the lines of its file.
        file: The name of its file.
        numbers: The numbers in its body, in the order of the source.
        own_calls: Names that it takes from its own object.
        parent_calls: Names that it takes from `super()`.
    """

    tree: ast.FunctionDef
    file: str
    numbers: tuple[Number, ...]
    own_calls: frozenset[str]
    parent_calls: frozenset[str]

    def runs(self, file: str, line: int) -> bool:
        """Returns whether a line of a file is one of the method's."""
        return file == self.file and self.tree.lineno <= line <= (self.tree.end_lineno or 0)


_READ: WeakKeyDictionary[FunctionType, MethodSource | None] = WeakKeyDictionary()


def read_method(function: FunctionType) -> MethodSource | None:
    """Reads the source of a method; None if it is not at hand, or is not what runs."""
    if function not in _READ:
        _READ[function] = _read(function)
    return _READ[function]


def with_numbers(function: FunctionType, changes: Mapping[int, str], holder: str) -> FunctionType:
    """Returns a method that takes some of its numbers from its object, `self.<holder>[<key>]`.

    It runs in the globals and the closure of the original, and has its lines.

    Args:
        function: A method that `read_method` can read.
        changes: For numbers, by their place in the source, the key.
        holder: Attribute of the object that holds them.
    """
    source = read_method(function)
    assert source is not None
    tree = copy.deepcopy(source.tree)
    places = _places(tree)
    owner = tree.args.args[0].arg
    swapped = {id(places[place][0]): _looked_up(owner, holder, key) for place, key in changes.items()}
    _Swap(swapped).visit(tree)
    code = _compiled(tree, function)
    assert code is not None
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    changed = FunctionType(
        code,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells[name] for name in code.co_freevars),
    )
    changed.__kwdefaults__ = function.__kwdefaults__
    changed.__annotations__, changed.__qualname__ = function.__annotations__, function.__qualname__
    changed.__dict__.update(function.__dict__)
    return changed


def _read(function: FunctionType) -> MethodSource | None:
    tree = _parsed(function)
    if tree is None or not tree.args.args or tree.args.posonlyargs or _rebinds(tree, tree.args.args[0].arg):
        return None
    code = _compiled(tree, function)
    if code is None or not _same(code, function.__code__):
        return None
    own, parents = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            own |= {node.attr} if node.value.id == tree.args.args[0].arg else set()
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
            called = node.value.func
            parents |= {node.attr} if isinstance(called, ast.Name) and called.id == "super" else set()
    numbers = tuple(Number(value, lines) for _, value, lines in _places(tree))
    return MethodSource(tree, function.__code__.co_filename, numbers, frozenset(own), frozenset(parents))


def _parsed(function: FunctionType) -> ast.FunctionDef | None:
    """Returns the tree of a function, with the lines of its file."""
    try:
        lines, first = inspect.getsourcelines(function)
        text, offset = "".join(lines), first - 1
        if text[:1].isspace():  # within a class, as it stands: longer strings may have lines without indentation
            text, offset = f"class Outer:\n{text}", first - 2
        found = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None
    tree = found.body[0] if isinstance(found, ast.ClassDef) else found
    if not isinstance(tree, ast.FunctionDef):
        return None
    ast.increment_lineno(tree, offset)
    return tree


def _rebinds(tree: ast.FunctionDef, name: str) -> bool:
    """Returns whether a function, or one within it, gives its first argument's name to something else."""
    stored = any(isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load) for n in ast.walk(tree))
    return stored or sum(isinstance(node, ast.arg) and node.arg == name for node in ast.walk(tree)) > 1


def _compiled(tree: ast.FunctionDef, function: FunctionType) -> CodeType | None:
    """Compiles a function where the original's was: in a class of that name, within a function with its variables.

    Nothing is run: the code is taken from that of its surroundings.
    """
    variables = [name for name in function.__code__.co_freevars if name != "__class__"]
    inner = function.__qualname__.split(".")[-2:-1]
    path = [*(["around"] if variables else []), *(inner if inner != ["<locals>"] else [])]
    text, depth = "".join(f"import {name}\n" for name in _imported(function)), 0
    for name in path:
        is_class = name != "around"
        text += textwrap.indent(f"{'class' if is_class else 'def'} {name}{'' if is_class else '()'}:\n", " " * depth)
        depth += 1
        text += "" if is_class else "".join(f"{' ' * depth}{variable} = None\n" for variable in variables)
    module = ast.parse(f"{text}{' ' * depth}pass")
    bare = copy.copy(tree)
    bare.decorator_list = []
    body = module.body
    for _ in path:
        body = body[-1].body  # type: ignore[attr-defined]
    body[-1] = bare
    flags = function.__code__.co_flags & _FUTURES
    code: CodeType | None = compile(module, function.__code__.co_filename, "exec", flags=flags, dont_inherit=True)
    for name in (*path, tree.name):
        inside = [held for held in code.co_consts if isinstance(held, CodeType)] if code is not None else []
        code = next((held for held in inside if held.co_name == name), None)
    return code


def _imported(function: FunctionType) -> list[str]:
    """Returns the names that a function's module most likely imports: calls of their methods compile differently."""
    codes, names = [function.__code__], set()
    for code in codes:
        names |= set(code.co_names)
        codes += [held for held in code.co_consts if isinstance(held, CodeType)]
    named = sorted(name for name in names if name.isidentifier())  # pytest has names of another kind in `assert`
    held = {name: function.__globals__[name] for name in named if name in function.__globals__}
    own = function.__module__
    return [name for name, value in held.items() if inspect.ismodule(value) or getattr(value, "__module__", own) != own]


def _same(one: CodeType, other: CodeType) -> bool:
    """Returns whether two code objects do the same, wherever they stand."""
    for name in ("code", "names", "varnames", "freevars", "cellvars", "argcount", "kwonlyargcount"):
        if getattr(one, f"co_{name}") != getattr(other, f"co_{name}"):
            return False
    if (one.co_flags ^ other.co_flags) & ~_NESTED or len(one.co_consts) != len(other.co_consts):
        return False
    return all(
        _same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else type(a) is type(b) and a == b
        for a, b in zip(one.co_consts, other.co_consts, strict=True)
    )


def _places(tree: ast.FunctionDef) -> list[tuple[ast.expr, int, tuple[int, int]]]:
    """Returns the numbers of a function in the order of the source: node, value, lines of their statement."""
    found = [place for statement in tree.body for place in _numbers_in(statement, (0, 0))]
    return sorted(found, key=lambda place: (place[0].lineno, place[0].col_offset))


def _numbers_in(node: ast.AST, lines: tuple[int, int]) -> Iterator[tuple[ast.expr, int, tuple[int, int]]]:
    if isinstance(node, ast.expr) and (value := _value(node)) is not None:
        yield node, value, lines
        return
    if isinstance(node, ast.stmt):
        body = getattr(node, "body", None)
        lines = node.lineno, body[0].lineno if body else node.end_lineno or node.lineno
    for name, held in ast.iter_fields(node):
        if name not in _NOT_RUN or (name == "args" and isinstance(node, ast.Call)):
            for child in held if isinstance(held, list) else [held]:
                if isinstance(child, ast.AST):
                    yield from _numbers_in(child, lines)


def _value(node: ast.expr) -> int | None:
    """Returns the value of a whole number that is written out, or of an expression of such; None for all else."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int and node.value <= _LARGEST else None
    if not isinstance(node, ast.BinOp) or (operation := _OPERATIONS.get(type(node.op))) is None:
        return None
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None or (operation is operator.pow and not 0 <= right <= _LARGEST_EXPONENT):
        return None
    if operation is operator.floordiv and not right:
        return None
    value = operation(left, right)
    return value if 0 <= value <= _LARGEST else None


def _looked_up(owner: str, holder: str, key: str) -> ast.expr:
    return ast.parse(f"{owner}.{holder}[{key!r}]", mode="eval").body


class _Swap(ast.NodeTransformer):
    """Puts expressions in the place of others, by their identity."""

    def __init__(self, swapped: Mapping[int, ast.expr]) -> None:
        self._swapped = swapped

    def visit(self, node: ast.AST) -> ast.AST:
        """Returns what stands in the place of a node."""
        new = self._swapped.get(id(node))
        if new is None:
            return self.generic_visit(node)
        for part in ast.walk(new):
            if isinstance(part, ast.expr):
                ast.copy_location(part, node)
        return new
