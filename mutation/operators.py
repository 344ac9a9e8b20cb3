"""The small changes that can be made to a module. Pure: source in, changed sources out."""

import ast
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
"""Each with what it is written as, and what takes its place."""
SWAPPED_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
NEXT_NUMBER = {0: 1, 1: 2, 2: 3}
"""Larger numbers are bounds and times that somebody chose: one more or less need not be held."""
SAID_ONLY = ("log", "_log", "logger", "warnings")
"""Calls of these are read by people: tests hold the words that matter, and need not hold each."""

UNHELD_KEYWORDS = ("frozen", "gc", "kw_only")
"""Of a class: they forbid what mypy does not let through anyway, or (gc) save the garbage collector work."""


class Mutant(NamedTuple):
    """One change of one module."""

    line: int
    """Where it is made, from 1."""
    was: str
    """The text of that line, without the space around it. With `change` it finds the mutant again when lines move."""
    change: str
    """`== becomes !=`, for people."""
    begin: int
    """Of the text that is replaced, in bytes of the module as UTF-8; and so `end`."""
    end: int
    text: str
    """What takes its place."""

    def of(self, source: str) -> str:
        """The whole module, changed."""
        encoded = source.encode()
        return (encoded[: self.begin] + self.text.encode() + encoded[self.end :]).decode()


def mutants(source: str) -> list[Mutant]:
    """All changes of a module that can be made, in the order of its lines."""
    lines = source.splitlines(keepends=True)
    starts = [0, *accumulate(len(line.encode()) for line in lines)]
    found = {
        Mutant(
            node.lineno,
            lines[node.lineno - 1].strip(),
            change,
            starts[node.lineno - 1] + node.col_offset,
            starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0),
            text,
        )
        for node, text, change in _changes(ast.parse(source))
    }
    return sorted(found)


Change = tuple[ast.expr | ast.stmt, str, str]
"""The node whose text is replaced, the new text, and the change in words."""


def _changes(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.stmt | ast.expr):
        yield from _of(node)
    for child in _children(node):
        yield from _changes(child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Those in which a change would be one of behaviour: not what is only for type checkers or people."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Expr) and _is_said_only(node.value)):
        return
    if isinstance(node, ast.ClassDef) and any(_last_name(each) == "Protocol" for each in node.bases):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params", "decorator_list"):
            continue
        for each in value if isinstance(value, list) else [value]:
            unheld = isinstance(node, ast.ClassDef) and isinstance(each, ast.keyword) and each.arg in UNHELD_KEYWORDS
            if isinstance(each, ast.AST) and not unheld:
                yield each


def _of(node: ast.stmt | ast.expr) -> Iterator[Change]:
    """The changes of this node itself."""
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            old, new = COMPARISONS[type(operator)]
            yield node, f"({_text(left)} {new} {_text(right)})", f"{old} becomes {new}"
        case ast.BoolOp(op=operator, values=values):
            old, new = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
            yield node, f"({f' {new} '.join(f'({_text(each)})' for each in values)})", f"{old} becomes {new}"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, f"({_text(operand)})", "not is dropped"
        case ast.BinOp(op=ast.Add() | ast.Sub() as operator, left=left, right=right):
            old, new = ("+", "-") if isinstance(operator, ast.Add) else ("-", "+")
            yield node, f"({_text(left)} {new} ({_text(right)}))", f"{old} becomes {new}"
        case ast.Constant(value=bool() as value):
            yield node, str(not value), f"{value} becomes {not value}"
        case ast.Constant(value=int() | float() as number) if number in NEXT_NUMBER:
            following = type(number)(NEXT_NUMBER[int(number)])
            yield node, str(following), f"{number} becomes {following}"
        case ast.Name(id=name, ctx=ast.Load()) if name in SWAPPED_NAMES:
            yield node, SWAPPED_NAMES[name], f"{name} becomes {SWAPPED_NAMES[name]}"
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if not isinstance(test, ast.Constant):
            yield test, f"(not ({_text(test)}))", "the condition is turned round"
        case ast.Expr(value=ast.Call() | ast.Await() as call) if not _is_said_only(call):
            yield node, "pass", f"{_named(call)} is deleted"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript() as target]) | ast.AugAssign(target=target):
            yield node, "pass", f"the assignment to {_text(target)} is deleted"
        case ast.Delete():
            yield node, "pass", "del is deleted"
        case ast.Raise(exc=ast.expr()):
            yield node, "pass", "raise is deleted"
        case ast.Continue():
            yield node, "break", "continue becomes break"
        case ast.Break():
            yield node, "continue", "break becomes continue"


def _named(call: ast.Call | ast.Await) -> str:
    inner = call.value if isinstance(call, ast.Await) else call
    name = _text(inner.func) if isinstance(inner, ast.Call) else _text(inner)
    return f"await {name}" if isinstance(call, ast.Await) else f"{name}()"


def _is_said_only(node: ast.expr) -> bool:
    """Whether this is a call of a logger, or a docstring."""
    if isinstance(node, ast.Constant):
        return True
    root: ast.expr = node
    while isinstance(root, ast.Call | ast.Attribute):
        root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Attribute) and root.attr in SAID_ONLY:
            return True
    return isinstance(root, ast.Name) and root.id in SAID_ONLY


def _last_name(node: ast.expr) -> str:
    inner = node.value if isinstance(node, ast.Subscript) else node
    return inner.attr if isinstance(inner, ast.Attribute) else inner.id if isinstance(inner, ast.Name) else ""


def _text(node: ast.expr) -> str:
    return ast.unparse(node)
