"""The harness's cache."""

import threading
from pathlib import Path

import pytest

from e2e.harness import caches


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "moorage" / "e2e"


def test_what_is_there_is_not_made_again() -> None:
    made: list[Path] = []
    first = caches.made("x", made.append)
    assert caches.made("x", made.append) == first
    assert len(made) == 1


def test_one_that_was_interrupted_is_not_taken_for_whole(cache: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caches.made("x", fail)
    assert [path.name for path in cache.iterdir()] == ["x.lock"]
    assert list(caches.made("x", lambda directory: (directory / "whole").touch()).iterdir()) == [
        cache / "x" / "whole"
    ]


def test_what_a_killed_one_left_is_removed(cache: Path) -> None:
    (caches.directory() / "x.draft-1").mkdir()
    caches.made("x", lambda _: None)
    assert sorted(path.name for path in cache.iterdir()) == ["x", "x.lock"]


def test_two_at_once_make_it_once() -> None:
    begun, go_on = threading.Event(), threading.Event()
    made: list[str] = []

    def slow(_: Path) -> None:
        begun.set()
        assert go_on.wait(10)
        made.append("first")

    first = threading.Thread(target=caches.made, args=("x", slow))
    second = threading.Thread(target=caches.made, args=("x", lambda _: made.append("second")))
    first.start()
    assert begun.wait(10)
    second.start()
    go_on.set()
    first.join(10)
    second.join(10)
    assert made == ["first"]


def test_keys_differ_where_parts_do() -> None:
    assert caches.key("a", "bc") != caches.key("ab", "c")
    assert caches.key("a") == caches.key(b"a")
