"""Which changes are made to a module."""

import ast
from pathlib import Path

import pytest

from mutation.operators import mutants

ROOT = Path(__file__).parents[2]


def changed(source: str) -> dict[str, list[str]]:
    """Change in words -> the modules that it makes, each as it would be written."""
    found: dict[str, list[str]] = {}
    for each in mutants(source):
        found.setdefault(each.change, []).append(ast.unparse(ast.parse(each.of(source))))
    return found


@pytest.mark.parametrize(
    ("source", "change", "result"),
    [
        ("a = b == c", "== becomes !=", "a = b != c"),
        ("a = b < c", "< becomes <=", "a = b <= c"),
        ("a = b in c", "in becomes not in", "a = b not in c"),
        ("a = b is None", "is becomes is not", "a = b is not None"),
        ("a = b and c or d", "or becomes and", "a = (b and c) and d"),
        ("a = not b", "not is dropped", "a = b"),
        ("class A(B, c=True):\n    pass", "True becomes False", "class A(B, c=False):\n    pass"),
        ("a = b - (c + d)", "- becomes +", "a = b + (c + d)"),
        ("a = True", "True becomes False", "a = False"),
        ("a = b[1:]", "1 becomes 2", "a = b[2:]"),
        ("a = b or 0.0", "0.0 becomes 1.0", "a = b or 1.0"),
        ("a = min(b)", "min becomes max", "a = max(b)"),
        ("if a:\n    b()\nelse:\n    c()", "the condition is turned round", "if not a:\n    b()\nelse:\n    c()"),
        ("while a():\n    pass", "the condition is turned round", "while not a():\n    pass"),
        ("a.close()\nb = 7", "a.close() is deleted", "pass\nb = 7"),
        ("async def f():\n    await a.wait()", "await a.wait is deleted", "async def f():\n    pass"),
        ("a.b = c", "the assignment to a.b is deleted", "pass"),
        ("a += c", "the assignment to a is deleted", "pass"),
        ("del a[b]", "del is deleted", "pass"),
        ("raise KeyError", "raise is deleted", "pass"),
        ("for a in b:\n    continue", "continue becomes break", "for a in b:\n    break"),
    ],
)
def test_every_kind_of_change_is_made(source: str, change: str, result: str) -> None:
    assert changed(source)[change] == [result]


@pytest.mark.parametrize(
    "source",
    [
        '"""What it is about."""',
        "a: Literal[1] = b",
        "def f(a: int | None) -> Literal[0]:\n    return a",
        "log.info('started', count=1)",
        "self._log.warning('lost', count=len(a) - 1)",
        "class A(Struct, frozen=True, gc=False, kw_only=True):\n    pass",
        "class A(Protocol):\n    def f(self, a: bool = True) -> None: ...",
        "a = f'{b + c} of 1'",
        "a = 15",
        "import a\nfrom b import c",
    ],
)
def test_what_only_people_and_type_checkers_read_is_left_alone(source: str) -> None:
    assert mutants(source) == []


def test_only_the_place_of_the_change_is_another_and_the_line_is_told() -> None:
    source = "# é, of two bytes\na = 'é', b == c  # why\nd = e\n"
    [mutant] = mutants(source)
    assert mutant.of(source) == "# é, of two bytes\na = 'é', (b != c)  # why\nd = e\n"
    assert (mutant.line, mutant.was, mutant.change) == (2, "a = 'é', b == c  # why", "== becomes !=")


@pytest.mark.parametrize("path", ["core/health.py", "operator/term.py", "dataplane/sync.py"])
def test_each_change_of_a_real_module_is_another_program(path: str) -> None:
    source = (ROOT / "src/moorage" / path).read_text()
    every = mutants(source)
    trees = {ast.dump(ast.parse(each.of(source))) for each in every}
    assert len(trees) == len(every) > 30
    assert ast.dump(ast.parse(source)) not in trees
