"""`moorage crds`: the CustomResourceDefinitions."""

import click

from moorage.api import crds


@click.command()
def command() -> None:
    """Print the CustomResourceDefinitions, for `kubectl apply -f -`."""
    click.echo(crds.manifest(), nl=False)
