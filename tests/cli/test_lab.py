"""`moorage lab` where no lab runs, and where the words are wrong."""

from pathlib import Path

import pytest

from moorage.cli.main import run


@pytest.fixture(autouse=True)
def _no_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_listing_says_that_no_lab_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "list"]) == 0
    assert capsys.readouterr().out == "no lab is running\n"


@pytest.mark.parametrize(
    "words",
    [
        ["stop"],
        ["get", "pods"],
        ["scale", "deploy/backend1", "--replicas", "0"],
        ["patch", "svc/backend", "-p", "{}"],
        ["edit", "svc/backend"],
        ["exec", "node-1", "--", "true"],
        ["logs", "deploy/frontend"],
        ["delete", "svc", "backend"],
    ],
)
def test_without_a_lab_the_user_is_told_how_to_start_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lab", *words]) == 1
    assert capsys.readouterr().err.startswith("moorage: no lab is running; start one with: moorage lab run")


@pytest.mark.parametrize(
    "words",
    [
        ["apply"],
        ["delete"],
        ["delete", "svc"],
        ["scale", "deploy/a", "b", "--replicas", "1"],
        ["scale", "deploy/a", "--replicas", "-1"],
        ["patch", "svc/a"],
        ["edit"],
    ],
)
def test_wrong_usage_is_status_2(words: list[str]) -> None:
    assert run(["lab", *words]) == 2


@pytest.mark.parametrize("verb", ["apply", "delete"])
def test_files_without_an_object_are_named(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.yml"
    file.write_text("# nothing yet\n")
    assert run(["lab", verb, "-f", str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"moorage: {file}: holds no object; ")


def test_what_is_wrong_with_manifests_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yml"
    file.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 99999}]}\n")
    assert run(["lab", "run", "-f", str(file)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"moorage: {file}: Service default/web: spec.ports[0].port: ")
