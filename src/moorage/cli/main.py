"""The command `moorage`: a table of commands, each imported only when it is used."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from moorage import __version__
from moorage.errors import MoorageError

_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where nft, ip, conntrack and dnsmasq are; Debian keeps them out of an ordinary user's PATH."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""


class Entry(NamedTuple):
    """One command of the table."""

    module: str
    """Its attribute `command` is the click command."""
    help: str
    """One line, so that `moorage --help` imports nothing."""
    hidden: bool = False
    log_level: str | None = "warning"
    """What it logs without `-v`: daemons "info". None: it does not use `moorage.log`, whose import takes time."""


COMMANDS: dict[str, Entry] = {
    "demo": Entry("moorage.cli.demo", "See sticky connections between two clusters on this machine."),
    "lab": Entry("moorage.cli.lab", "Run clusters as network namespaces, and work with them."),
    "render": Entry("moorage.cli.render", "Print the nft script for manifests; touch nothing."),
    "sessions": Entry("moorage.cli.sessions", "List a node's learned sessions: client, service, endpoint."),
    "node": Entry(
        "moorage.cli.node", "Run a node's agent: Services and EndpointSlices to nftables.", log_level="info"
    ),
    "app": Entry("moorage.cli.app", "Run one of the demo's programs.", log_level=None),
    "lab-apiserver": Entry("moorage.cli.lab_apiserver", "The API server of a lab cluster.", True, "info"),
    "lab-control": Entry("moorage.cli.lab_control", "The controllers and kubelets of a lab cluster.", True, "info"),
}


class LazyGroup(click.Group):
    """A group over `COMMANDS` that imports a command's module when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in COMMANDS.items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 118})
@click.version_option(__version__, prog_name="moorage", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Log what is decided and done, not only what is unusual.")
@click.option("--log-json", is_flag=True, help="Log JSON lines.")
@click.pass_context
def command(ctx: click.Context, verbose: bool, log_json: bool) -> None:
    """Sticky, health-checked connections from Kubernetes pods to services outside the cluster."""
    entry = COMMANDS.get(ctx.invoked_subcommand or "")
    if entry and entry.log_level:
        from moorage import log

        log.configure("debug" if verbose else entry.log_level, log_json)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit status.

    0: done. 1: a MoorageError, printed as one line on standard error (one for each of its `errors` where it holds
    several). 2: wrong usage. 130: interrupted. Any other status is the one that the command returned or exited with.
    """
    try:
        result = command.main(args=list(args), prog_name="moorage", standalone_mode=False)
    except MoorageError as error:
        for each in getattr(error, "errors", (error,)):
            click.echo(f"moorage: {_one_line(each)}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def main() -> None:
    """The entry point of the installed program."""
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES])
    sys.exit(run(sys.argv[1:]))


def _one_line(error: MoorageError) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()) or type(error).__name__
