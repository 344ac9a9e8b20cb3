"""Every command that the lab's messages and help name works as it is printed."""

import ast
import inspect
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import pytest

from moorage.cli import main
from moorage_lab import hints
from moorage_lab.cli.lab import command as lab_command
from tests.support.labs import ROOT, START_SECONDS, User, a_user, until

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with a_user() as user:
        yield user


@pytest.fixture(scope="module")
def one_cluster(user: User) -> Iterator[str]:
    """What a lab of one cluster with the demo's backends printed until it was up."""
    with stays_up(user, "moorage lab run --cluster a=1 -f deploy/demo/k8s-backend.yml") as printed:
        yield printed
        user.shell("moorage lab stop --name lab")


@contextmanager
def stays_up(user: User, line: str) -> Iterator[str]:
    """A command that starts a lab; what it printed until it was up. After the block it must have ended by itself."""
    output = user.runtime / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], env=user.environ, cwd=ROOT, stdout=file, stderr=file
        )
    try:
        until(lambda: process.poll() is not None or "Ctrl-C" in output.read_text(), line, 2 * START_SECONDS)
        assert process.poll() is None, output.read_text()
        yield output.read_text()
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def examples(*words: str) -> list[str]:
    """The commands in the help of `moorage lab WORDS...`."""
    command: click.Command = lab_command
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return [line.strip() for line in (command.help or "").splitlines() if line.strip().startswith("moorage ")]


@pytest.mark.timeout(300)
def test_every_command_that_a_message_names_works_and_so_do_the_examples_in_the_help(user: User) -> None:
    [run], [kubeconfig], names = (examples(*words) for words in (["run"], ["kubeconfig"], ["dns", "set"]))
    with stays_up(user, run) as printed:
        tried = {
            "list_": user.shell(hints.list_()),
            "get": user.shell(hints.get("lab", "b", "-n frontend pods")),
            "logs": user.shell(hints.logs("lab", "a", "backend", "deployment/backend1")),
        }
        assert tried["list_"].splitlines()[1].split()[0] == "lab"
        assert re.search(r"^frontend-\S+ +1/1 +Running ", tried["get"], re.MULTILINE)
        assert user.shell(kubeconfig) == "secret/cluster-a serverside-applied\n"
        assert [user.shell(line).split()[:3] for line in names] == [["NAME", "TYPE", "DATA"]] * 2
        for line in re.findall(r"^(curl .*)", printed, re.MULTILINE):
            assert "backend[" in user.shell(line)
        tried["stop"] = user.shell(hints.stop("lab"))
    with stays_up(user, hints.run()) as printed:
        tried["run"] = printed
        user.shell(hints.stop("lab"))
    assert set(tried) == {name for name, each in vars(hints).items() if inspect.isfunction(each)}


def test_every_example_in_the_help_is_tried_here() -> None:
    assert {words for words in every_command(lab_command) if examples(*words)} == {
        ("run",),
        ("kubeconfig",),
        ("dns", "set"),
    }


def objects(*found: dict[str, Any]) -> str:
    """As manifests, all of them called `mine` where they have no name."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {**each, "metadata": {"name": "mine", "namespace": "default", **each.pop("metadata", {})}}
                for each in found
            ],
        }
    )


def message(user: User, reason: str) -> str:
    """Of the ExternalService's condition with this reason, empty where there is none."""
    xsvc = json.loads(user.ok("lab", "get", "xsvc", "mine", "-o", "json"))
    conditions = xsvc.get("status", {}).get("conditions", ())
    return next((str(each["message"]) for each in conditions if each["reason"] == reason), "")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("one_cluster")
def test_kubectl_s_commands_in_conditions_do_what_they_say(user: User) -> None:
    """With the lab's `delete` in the place of kubectl's, which takes the same words."""
    ports = [{"port": 80}]
    mine = {"apiVersion": "moorage.dev/v1alpha1", "kind": "ExternalService"}
    addresses = [{"addresses": [{"address": "192.0.2.1"}]}]
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": ports}}
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "theirs", "labels": {"kubernetes.io/service-name": "mine"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.2"]}],
        "ports": ports,
    }
    subsets = [{"addresses": [{"ip": "192.0.2.3"}], "ports": ports}]
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "subsets": subsets}
    user.ok(
        "lab",
        "apply",
        "-f",
        "-",
        input=objects(service, {**mine, "spec": {"ports": ports, "endpoints": addresses}}),
    )
    for reason, there in (("NameTaken", None), ("ForeignSlices", slice_), ("ForeignSlices", endpoints)):
        if there:
            user.ok("lab", "apply", "-f", "-", input=objects(there))
        until(lambda reason=reason: message(user, reason), reason, 60)  # type: ignore[misc]
        [command] = re.findall(r"kubectl (delete [^,;)]*)", message(user, reason))
        assert "deleted" in user.shell(f"moorage lab {command}")
        until(lambda reason=reason: not message(user, reason), f"the end of {reason}", 60)  # type: ignore[misc]


def test_a_lab_says_what_it_waits_for(one_cluster: str) -> None:
    lines = one_cluster.splitlines()
    assert lines[0] == "lab lab: starting cluster a with 1 node"
    steps = ["cluster a: export", "waiting for 1 node", "cluster a: applying 5 objects"]
    steps += ["waiting for 2 Deployments", "waiting for 2 load balancers", "lab lab is up; Ctrl-C ends it"]
    assert [step for line in lines for step in steps if line.startswith(step)] == steps


def test_a_lab_can_be_named_with_and_without_the_option_but_not_two_of_them() -> None:
    assert main.run(["lab", "stop", "--name", "one", "two"]) == 2


def test_no_message_and_no_help_spells_out_a_command_of_its_own() -> None:
    """So that those in `hints` and the examples above are all."""
    found = []
    for path in (ROOT / "lab/src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        documented = (each for each in ast.walk(tree) if isinstance(each, DOCUMENTED))
        docstrings = {ast.get_docstring(each, clean=False) for each in documented}
        strings = {each.value for each in ast.walk(tree) if isinstance(each, ast.Constant)} - docstrings
        found += [each for each in strings if isinstance(each, str) and "moorage lab " in each]
    assert found == []


def every_command(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from every_command(found, (*words, name))


@pytest.mark.parametrize("words", list(every_command(main.command)), ids=" ".join)
def test_wrong_usage_names_a_help_that_there_is(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*words, "--no-such-option"]) == 2
    [line] = re.findall(r"^Try '(moorage.*)' for help\.$", capsys.readouterr().err, re.MULTILINE)
    assert main.run(line.split()[1:]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: {line.removesuffix(' --help')} ")
