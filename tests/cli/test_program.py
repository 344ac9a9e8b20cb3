"""What a message tells a person to type."""

from pathlib import Path

import pytest

from moorage.cli.program import called


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
