"""The health script for Argo CD, run by Lua 5.1 (Argo CD's own Lua is of that version)."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.judged import states

ARGOCD = Path(__file__).parents[2] / "deploy/argocd/argocd-cm.yaml"
_SCRIPT = "resource.customizations.health.moorage.dev_ExternalService"
_SANDBOX = "io, os, math, string, debug, coroutine = nil"
"""Argo CD lets a script use Lua's basic functions and `table` (argo-cd/util/lua)."""

STATES = states()


def argo_health(objects: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Status and message that the health script for Argo CD gives each of these ExternalServices."""
    script = yaml.safe_load(ARGOCD.read_text())["data"][_SCRIPT]
    judged = [f"print_health(judge({_lua(each)}))" for each in objects]
    program = [
        'getmetatable("").__index = nil',
        _SANDBOX,
        f"local function judge(obj)\n{script}\nend",
        "local function print_health(one) print(one.status .. '\\t' .. one.message) end",
        *judged,
    ]
    done = subprocess.run(
        ["lua5.1", "-"], input="\n".join(program), capture_output=True, text=True, check=True, timeout=30
    )
    return [(status, message) for status, _, message in (line.partition("\t") for line in done.stdout.splitlines())]


def _lua(value: Any) -> str:
    """A literal of Lua."""
    match value:
        case dict():
            return "{" + ", ".join(f"[{_lua(name)}] = {_lua(each)}" for name, each in value.items()) + "}"
        case list():
            return "{" + ", ".join(_lua(each) for each in value) + "}"
        case None:
            return "nil"
        case str():
            return '"' + "".join(f"\\{byte:03}" for byte in value.encode()) + '"'
        case _:
            return json.dumps(value)


def test_argo_cd_shows_each_state_as_it_is() -> None:
    judged = argo_health([state.json for state in STATES])
    assert {state.what: status for state, (status, _) in zip(STATES, judged, strict=True)} == {
        state.what: state.argo for state in STATES
    }
    assert all(message for _, message in judged)


def test_it_says_what_is_wrong_also_where_clients_are_served() -> None:
    (lost,) = (state for state in STATES if state.what == "a source that had some cannot be read")
    ((status, message),) = argo_health([lost.json])
    assert status == "Healthy"
    assert "Secret frontend/cluster-a does not exist" in message


def test_an_object_without_status_is_not_healthy_yet() -> None:
    """As an API server without the present definition shows it."""
    assert argo_health([{"metadata": {"generation": 1}, "spec": {}}])[0][0] == "Progressing"


def test_it_is_a_patch_of_argo_cd_s_configuration() -> None:
    patch = yaml.safe_load(ARGOCD.read_text())
    assert list(patch) == ["data"]
    assert list(patch["data"]) == ["resource.customizations.health.moorage.dev_ExternalService"]
