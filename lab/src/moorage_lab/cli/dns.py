"""`moorage lab dns`: names in the lab's internet."""

from collections.abc import Callable

import click

from moorage.cli.columns import columns_of
from moorage_lab.state import alone, find, zone_file
from moorage_lab.zone import Zone

_name = click.option("--name", "lab", help="The lab; default: the only one that runs.")


@click.group("dns")
def command() -> None:
    """Add names to the lab's internet, for sources of ExternalServices and for pods."""


@command.command("set")
@_name
@click.argument("host", metavar="NAME")
@click.argument("data", nargs=-1, required=True, metavar="ADDRESS... | 'PRIORITY WEIGHT PORT TARGET'...")
def set_(lab: str | None, host: str, data: tuple[str, ...]) -> None:
    """Give NAME these records instead of its present ones.

    \b
    moorage lab dns set db.example.com 203.0.113.1 203.0.113.2
    moorage lab dns set _db._tcp.example.com '0 1 5432 db1.example.com' '0 2 5432 db2.example.com'
    """
    _print(_change(lab, lambda zone: zone.with_records(host, data)))


@command.command()
@_name
@click.argument("host", metavar="NAME")
def remove(lab: str | None, host: str) -> None:
    """Remove all records of NAME."""
    _print(_change(lab, lambda zone: zone.without(host)))


@command.command("list")
@_name
def list_(lab: str | None) -> None:
    """List all names and their records."""
    _print(_change(lab, lambda zone: zone))


def _change(lab: str | None, change: Callable[[Zone], Zone]) -> Zone:
    """The records after the change; the name server reads them with the next question."""
    _, path = find(lab)
    file = zone_file(path)
    with alone(path):
        zone = Zone.read(file.read_text()) if file.exists() else Zone()
        changed = change(zone)
        if changed is not zone:
            new = file.with_suffix(".new")
            new.write_text(str(changed))
            new.replace(file)
    return changed


def _print(zone: Zone) -> None:
    rows = zone.rows()
    click.echo(columns_of([["NAME", "TYPE", "DATA"], *rows]) if rows else "no names")
