"""The command lines of a cluster's processes are ones that the programs take."""

from pathlib import Path

import click
import pytest

from moorage.cli.main import command as moorage
from moorage_lab import topology
from moorage_lab.forking import Program
from moorage_lab.programs import Files, api_server, name_server, others

FILES = ("/run/moorage/a/kubeconfig", "/run/moorage/a/plan.json")
"""What there is when the programs start."""


def all_programs() -> list[Program]:
    cluster = topology.plan({"a": 2}).clusters[0]
    files = Files(Path("/run/moorage"), Path("/run/moorage/state"), "a")
    names = name_server(topology.plan({"a": 2}), Path("/run/moorage/state"))
    return [names, api_server(cluster, files, 7, 16443), *others(cluster, files)]


@pytest.mark.parametrize("program", all_programs(), ids=lambda program: program.name)
def test_moorages_own_are_understood(program: Program, tmp_path: Path) -> None:
    assert len(program.argv) > 2
    if program.argv[0] == "dnsmasq":
        return
    name, *arguments = program.argv[1:]
    existing = tmp_path / "file"
    existing.touch()
    arguments = [str(existing) if word in FILES else word for word in arguments]
    found = moorage.get_command(click.Context(moorage), name)
    assert found is not None
    found.make_context(name, arguments)


def test_there_is_an_agent_for_every_node_and_one_for_the_load_balancer() -> None:
    agents = {program.netns: program.argv for program in all_programs() if program.name.startswith("agent")}
    assert sorted(agents) == ["a-gateway", "a-node-1", "a-node-2"]
    assert "load-balancer" in agents["a-gateway"]
    assert "load-balancer" not in agents["a-node-1"]


def test_names_of_logs_are_unique() -> None:
    names = [program.name for program in all_programs()]
    assert len(set(names)) == len(names)
