"""`make quick` leaves out what does I/O, by whatever way it is imported."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from testing import purity

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module of a repository of the test's own."""
    monkeypatch.setattr(purity, "ROOTS", (tmp_path,))

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.mark.parametrize(
    "within",
    [
        "def late():\n    import socket",
        "class Late:\n    if True:\n        import socket",
        "try:\n    pass\nexcept ValueError:\n    import socket",
        "match 1:\n    case 1:\n        import socket",
    ],
)
def test_what_is_imported_anywhere_in_a_module_counts(write: Write, within: str) -> None:
    assert not purity.is_pure(write("tests/test_x.py", within))


@pytest.mark.parametrize("text", ["import asyncio", "import os\nfrom urllib import parse", "import http.client"])
def test_what_imports_io_itself_is_not_pure(write: Write, text: str) -> None:
    assert purity.is_pure(write("tests/test_x.py", text)) is ("urllib" in text)


def test_what_imports_io_by_way_of_others_is_not_pure(write: Write) -> None:
    write("helpers/__init__.py", "")
    write("helpers/a.py", "from helpers import b")
    b = write("helpers/b.py", "import math")
    module = write("tests/test_x.py", "from helpers.a import b")
    assert purity.is_pure(module)
    b.write_text("def late():\n    import socket")
    purity._imports.cache_clear()
    assert not purity.is_pure(module)


def test_what_a_package_imports_when_it_is_imported_counts(write: Write) -> None:
    write("helpers/__init__.py", "import subprocess")
    write("helpers/a.py", "")
    assert not purity.is_pure(write("tests/test_x.py", "from helpers.a import something"))


def test_packages_that_decide_are_pure_whatever_their_executors_import(write: Write) -> None:
    write("moorage/dataplane/nft.py", "import subprocess")
    write("moorage/dataplanes.py", "import subprocess")
    assert purity.is_pure(write("tests/test_x.py", "from moorage.dataplane import nft"))
    assert not purity.is_pure(write("tests/test_y.py", "from moorage import dataplanes"))


def test_of_this_repository_core_is_pure_and_the_client_is_not() -> None:
    assert purity.is_pure(purity.ROOT / "tests/core/test_decide.py")
    assert purity.is_pure(purity.ROOT / "tests/dataplane/test_sync.py")
    assert not purity.is_pure(purity.ROOT / "tests/cluster/test_client.py")
    assert not purity.is_pure(purity.ROOT / "tests/core/test_round_trips.py")


@pytest.fixture
def given_by_a_pure_module() -> None:
    """Nothing."""


def _give_nothing() -> None:
    """What a module with I/O gives."""


_give_nothing.__module__ = "tests.support.netns"
given_by_a_module_with_io = pytest.fixture(_give_nothing)


@pytest.fixture
def given_by_way_of_it(given_by_a_module_with_io: None) -> None:
    """Nothing."""


@pytest.mark.usefixtures("given_by_a_pure_module", "tmp_path")
def test_a_test_with_fixtures_of_pure_modules_and_of_libraries_is_pure(request: pytest.FixtureRequest) -> None:
    assert purity.is_pure_test(request.node)


@pytest.mark.usefixtures("given_by_a_module_with_io")
def test_a_test_with_a_fixture_of_a_module_with_io_is_not_pure(request: pytest.FixtureRequest) -> None:
    assert not purity.is_pure_test(request.node)


@pytest.mark.usefixtures("given_by_way_of_it")
def test_a_test_is_not_pure_by_way_of_its_fixtures_either(request: pytest.FixtureRequest) -> None:
    assert not purity.is_pure_test(request.node)
