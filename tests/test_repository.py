"""What holds for the repository as a whole."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = {"tests": 600, "testing": 600}
"""Lines of a module, by its first directory, 400 elsewhere: tables of cases need more room than code."""
MAY_IMPORT = {
    "lab": set[str](),
    "src": set[str](),
    "testing": set[str](),
    "e2e": {"testing"},
    "bench": {"testing", "e2e"},
    "mutation": set[str](),
    "tests": {"testing", "e2e", "bench", "mutation"},
}
"""Which of the others each directory may import: no two import each other."""
NOT_OURS = {".git", ".venv", ".hypothesis", "build", "dist", "__pycache__"}
MACHINE_PATH = re.compile(r"(?<![\w.>}/])/(work|tmp|home|root|Users)/\w")
NAMED_PATH = re.compile(r"(?<![\w./:@-])[a-z_]+(?:/[\w*.-]*\w)+")
NAMED_FROM = [ROOT / root for root in ("", "src", "src/moorage", "lab/src", "lab/src/moorage_lab")]
"""Documents name files and modules from any of these directories."""
SOURCE_NAMES = {"cluster/backend"}
"""What documents call a source of endpoints; it is no path."""
INDEX_ADDRESS = re.compile(r"index-url|pythonhosted|pypi\.org|/simple/?\b", re.IGNORECASE)


def files(*suffixes: str) -> Iterator[Path]:
    """The repository's text files, without what tools made."""
    pending = [ROOT]
    while pending:
        for path in pending.pop().iterdir():
            if path.name in NOT_OURS or path.name.endswith("_cache"):
                continue
            if path.is_dir():
                pending.append(path)
            elif not suffixes or path.suffix in suffixes:
                yield path


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_modules_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in files(".py")}
    assert Path("src/moorage/proc.py") in lengths
    assert {str(path): length for path, length in lengths.items() if length > MAX_LINES.get(path.parts[0], 400)} == {}


def imported(path: Path) -> Iterator[str]:
    """The first words of the absolute imports of a module, wherever in it they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_tests_and_what_they_share_import_in_one_direction() -> None:
    modules = [path for path in files(".py") if path.relative_to(ROOT).parts[0] in MAY_IMPORT]
    assert {path.relative_to(ROOT).parts[0] for path in modules} == set(MAY_IMPORT)
    wrong = [
        f"{name(path)} imports {word}"
        for path in modules
        for word in imported(path)
        if word in MAY_IMPORT
        and word not in MAY_IMPORT[path.relative_to(ROOT).parts[0]] | {path.relative_to(ROOT).parts[0]}
    ]
    assert wrong == []


def test_no_file_holds_a_path_of_somebody_s_machine() -> None:
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if path != Path(__file__) and MACHINE_PATH.search(line)
    ]
    assert found == []


def test_a_path_of_somebody_s_machine_would_be_found() -> None:
    assert MACHINE_PATH.search('open("/home/somebody/x")')


def missing(text: str) -> list[str]:
    """The paths in a text that begin with one of our directories and lead to no file, directory or module."""
    return [
        path
        for path in NAMED_PATH.findall(text)
        if path not in SOURCE_NAMES
        and any((root / path.partition("/")[0]).is_dir() for root in NAMED_FROM)
        and not any(any(root.glob(name)) for root in NAMED_FROM for name in (path, f"{path}.py"))
    ]


DOCUMENTS = [
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_documents_name_only_files_that_there_are(document: Path) -> None:
    assert missing(document.read_text()) == []


def test_a_module_or_file_that_is_gone_would_be_found() -> None:
    text = "`operator/gone.py`, operator/gone, `tests/gone.txt`, `core/decide`, `api/validation*.py`, service/backend"
    assert missing(text) == ["operator/gone.py", "operator/gone", "tests/gone.txt"]


@pytest.mark.parametrize("file", ["requirements.lock", "lab/run.lock"])
def test_a_lock_names_no_package_index_and_pins_every_package_by_hash(file: str) -> None:
    lock = (ROOT / file).read_text()
    assert not INDEX_ADDRESS.search(lock)
    requirements = re.split(r"\n(?=\S)", lock.strip())
    assert len(requirements) > 20
    for requirement in requirements:
        assert re.match(r"[\w.-]+(\[[\w,]+\])?==\S+", requirement)
        assert "--hash=sha256:" in requirement


def without_marker(requirement: str) -> str:
    """What of the tests' is for every Python may be only for some in what runs the demo."""
    return re.sub(r" ; [^\\]*", " ", requirement)


def test_the_demo_has_the_versions_that_the_tests_run_with() -> None:
    tested, demo = (
        re.split(r"\n(?=\S)", (ROOT / file).read_text().strip()) for file in ("requirements.lock", "lab/run.lock")
    )
    assert {without_marker(each) for each in demo} <= {without_marker(each) for each in tested}
    assert not {"pytest", "mypy", "ruff", "uv"} & {requirement.partition("==")[0] for requirement in demo}


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/packages", ".ci/run"])
def test_scripts_can_be_run_and_are_bash(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111 == 0o111
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", path], check=True)
