"""`moorage app`: the command line of the demo's programs, which `tests/apps` are about."""

import pytest

from moorage.cli.main import run


@pytest.mark.parametrize(
    ("program", "environment", "message"),
    [
        ("backend", {"PORT": "abc"}, "backend: environment variable PORT: 'abc' is not a port"),
        ("frontend", {"BACKEND_HOST": ""}, "frontend: environment variable BACKEND_HOST: not set"),
        ("worker", {"BACKEND_HOST": ""}, "worker: environment variable BACKEND_HOST: not set"),
    ],
)
def test_what_keeps_a_program_from_starting_is_one_line(
    program: str,
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(["app", program]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"moorage: {message}")
