"""What a message tells a person to type."""

import sys
from pathlib import Path

import pytest

from moorage.cli.program import VARIABLE, called, name


@pytest.mark.parametrize(
    ("script", "typed"),
    [
        (".venv/bin/moorage", ".venv/bin/moorage"),
        ("/opt/moorage/bin/moorage", "/opt/moorage/bin/moorage"),
        ("/somewhere/moorage/__main__.py", "/opt/bin/python3 -m moorage"),
        ("/somewhere/bin/pytest", "moorage"),
    ],
)
def test_a_program_that_is_not_in_path_is_called_as_it_was_called(script: str, typed: str, tmp_path: Path) -> None:
    assert called(script, "/opt/bin/python3", str(tmp_path)) == typed


def test_a_program_in_path_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "moorage").write_text("#!/bin/sh\n")
    (tmp_path / "moorage").chmod(0o755)
    assert called(".venv/bin/moorage", "/opt/bin/python3", str(tmp_path)) == "moorage"


def test_a_program_is_called_as_its_own_command_line_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/moorage", "render"])
    assert name.__wrapped__() == ".venv/bin/moorage"


def test_a_program_that_another_one_starts_is_called_as_that_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "kubectl moorage")
    monkeypatch.setattr(sys, "argv", [".venv/bin/moorage", "render"])
    assert name.__wrapped__() == "kubectl moorage"
