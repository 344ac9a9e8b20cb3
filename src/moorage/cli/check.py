"""`moorage check`: can Moorage run in a cluster, and does it run well?"""

import asyncio
import os
from pathlib import Path
from typing import Any

import click
import msgspec

from moorage.check import obedience
from moorage.check.facts import IMAGE, Facts, Names, Unread
from moorage.check.findings import Finding, counted, judge, status
from moorage.check.gather import gather
from moorage.check.trial import attempt
from moorage.cli.columns import columns_of
from moorage.cluster import kubeconfig
from moorage.cluster.kubeconfig import Config
from moorage.errors import MoorageError


@click.command()
@click.option(
    "--kubeconfig",
    "path",
    type=click.Path(),
    envvar="KUBECONFIG",
    show_envvar=True,
    help="How to reach the cluster; default: ~/.kube/config.",
)
@click.option("--context", help="The context in it; default: its current one.")
@click.option(
    "--server",
    metavar="URL",
    help="Instead of a kubeconfig: one that asks for no credentials, such as http://127.0.0.1:8001 of kubectl proxy.",
)
@click.option("--pre", is_flag=True, help="Whether Moorage can be installed; default: find out whether it is.")
@click.option("--namespace", default=Names().operator, show_default=True, help="Namespace of the operator.")
@click.option("--agents", default=Names().agents, show_default=True, help="Namespace of the node agents.")
@click.option(
    "--behaviour",
    is_flag=True,
    help="Also make Services and small pods for some seconds, and see whether hints of EndpointSlices are obeyed.",
)
@click.option(
    "--behaviour-namespace", default="", help="An existing namespace for these; default: one that is made for them."
)
@click.option(
    "--image",
    default="",
    help=f"For the pods of --behaviour, any with python3; default: the one that is installed, else {IMAGE}.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    path: str | None,
    context: str | None,
    server: str | None,
    pre: bool,
    namespace: str,
    agents: str,
    behaviour: bool,
    behaviour_namespace: str,
    image: str,
    output: str,
) -> int:
    """Say whether Moorage can be installed in a cluster, or is well there, and what to do if not. Change nothing, but
    for what --behaviour makes and deletes.

    Exit status 0: nothing fails, though there may be warnings; 1: something fails; 2: some of it could not be found
    out.
    """
    names = Names(namespace, agents)
    try:
        config = Config(server=server) if server else kubeconfig.load(path or _default(), context)
        facts = asyncio.run(gather(config, names, before=True if pre else None))
    except MoorageError as error:
        facts = Facts(names=names, version=Unread(str(error)))
    findings = judge(facts)
    if behaviour and not isinstance(facts.version, Unread):
        outcome = asyncio.run(attempt(config, facts, image=image, namespace=behaviour_namespace))
        findings += obedience.judge(outcome)
        if outcome.interrupted:
            click.echo(_text(findings), err=True)
            raise click.Abort
    click.echo(_json(findings) if output == "json" else _text(findings))
    return status(findings)


def _default() -> Path:
    return Path(os.path.expanduser("~/.kube/config"))


def _text(findings: list[Finding]) -> str:
    rows = [
        [each.verdict, each.check, f"{each.what}; to do: {each.do}" if each.do else each.what] for each in findings
    ]
    return f"{columns_of(rows)}\n{counted(findings)}"


def _json(findings: list[Finding]) -> str:
    found: dict[str, Any] = {
        "status": status(findings),
        "checks": [
            {"check": each.check, "verdict": each.verdict, "message": each.what, "toDo": each.do} for each in findings
        ],
    }
    return msgspec.json.format(msgspec.json.encode(found)).decode()
