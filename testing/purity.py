"""Which tests are pure, found by what their modules import, and their fixtures' modules: `make quick` runs these."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = (ROOT / "src", ROOT / "lab" / "src", ROOT)
"""Where our packages are."""
IO = frozenset(
    {"aiohttp", "asyncio", "ctypes", "dns", "http", "multiprocessing", "select", "signal", "socket", "ssl"}
    | {"subprocess", "threading"}
)
"""What is imported only to reach something outside of the process, or to wait."""
DECIDING = ("moorage.api.", "moorage.core.", "moorage.dataplane.")
"""Packages that decide, with fakes beside the little that does: what they import themselves does not count."""
HOLDING_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)
"""What an `import` can be, or can be within: no expression, of which there are ten times as many."""


def is_pure(path: Path) -> bool:
    """Whether a module, and all of ours that it imports outside of DECIDING, import nothing of IO."""
    seen, pending = {path}, [path]
    while pending:
        ours, others = _imports(pending.pop())
        if others & IO:
            return False
        pending += ours - seen
        seen |= ours
    return True


def is_pure_test(item: pytest.Item) -> bool:
    """Whether the modules of all fixtures that a test uses, or these use, are pure: it need not import those."""
    fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    modules = {each.func.__module__ for definitions in fixtures.values() for each in definitions}
    return all(is_pure(path) for name in modules for path in _modules(name))


@cache
def _imports(path: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Our modules that a module imports, and the first words of the others'."""
    ours, others = set[Path](), set[str]()
    for name in _names(ast.parse(path.read_text())):
        if f"{name}.".startswith(DECIDING):
            continue
        found = _modules(name)
        ours.update(found)
        if not found:
            others.add(name.partition(".")[0])
    return frozenset(ours), frozenset(others)


def _names(tree: ast.Module) -> Iterator[str]:
    """All that a module imports, as absolute names; what it imports only for type checkers, too."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending += (each for each in ast.iter_child_nodes(node) if isinstance(each, HOLDING_STATEMENTS))


def _modules(name: str) -> list[Path]:
    """The files that importing this name runs, of ours: a name may be an attribute of its module."""
    words = name.split(".")
    for root in ROOTS:
        if (root / words[0]).is_dir():
            steps = [root.joinpath(*words[: length + 1]) for length in range(len(words))]
            return [
                path for step in steps for path in (step / "__init__.py", step.with_suffix(".py")) if path.is_file()
            ]
    return []
