"""The command `moorage`: a table of commands, each imported only when it is used."""

import errno
import functools
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from moorage import __version__
from moorage.cli import program
from moorage.errors import MoorageError

_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Directories with nft, ip, conntrack and dnsmasq that Debian leaves out of an ordinary user's PATH."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells: 128 + SIGINT."""


class Entry(NamedTuple):
    """One command of the table."""

    module: str
    """The module; its attribute `command` is the click command."""
    help: str
    """One line, so that `moorage --help` need not import the module."""
    hidden: bool = False
    log_level: str | None = "warning"
    """Its log level without `-v`: "info" for daemons. None: it does not use `moorage.log`, whose import takes
    time."""


COMMANDS: dict[str, Entry] = {
    "render": Entry("moorage.cli.render", "Print the nft script for manifests; touch nothing."),
    "sessions": Entry("moorage.cli.sessions", "List a node's learned sessions: client, service, endpoint."),
    "node": Entry(
        "moorage.cli.node", "Run a node's agent: Services and EndpointSlices to nftables.", log_level="info"
    ),
    "operator": Entry(
        "moorage.cli.operator", "Find, check and keep the endpoints of ExternalServices.", log_level="info"
    ),
    "outside": Entry("moorage.cli.outside", "A child process of the operator.", True, "info"),
    "check": Entry("moorage.cli.check", "Check a cluster, before or after an installation."),
    "crds": Entry("moorage.cli.crds", "Print the CustomResourceDefinitions, for kubectl apply.", log_level=None),
    "app": Entry("moorage.cli.app", "Run one of the demo's programs.", log_level=None),
}

ADDED = "moorage.commands"
"""The entry-point group by which other distributions add commands: each entry names a table like `COMMANDS`."""
_LAB = ("demo", "lab")


@functools.cache
def added() -> dict[str, Entry]:
    """The commands of other installed distributions, such as the lab's."""
    from importlib.metadata import entry_points  # importing it takes longer than everything else here

    return {name: entry for point in entry_points(group=ADDED) for name, entry in point.load().items()}


def find(name: str) -> Entry | None:
    """The command of this name. Raises MoorageError for one of the lab's if the lab is not installed."""
    entry = COMMANDS.get(name) or added().get(name)
    if entry is None and name in _LAB:
        raise MoorageError(f"{name}: the lab is not installed; install it from a clone of Moorage: pip install ./lab")
    return entry


class LazyGroup(click.Group):
    """A group of `COMMANDS` and those `added`; it imports the module of a command when that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in (COMMANDS | added()).items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = find(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises MoorageError for an error of the system, and for a bug in a command for people.

        A bug in a daemon, or with -v, keeps its own exception: the stack trace belongs in the log.
        """
        try:
            return super().invoke(ctx)
        except (MoorageError, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has closed the pipe; click ends silently
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise MoorageError(f"{where}{error.strerror or error}") from error
        except Exception as error:
            entry = find(ctx.invoked_subcommand or "")
            if ctx.params["verbose"] or (entry and entry.log_level == "info"):
                raise
            raise MoorageError(f"{_bug(error)}; please report what `{program.name()} -v` prints of it") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            every = COMMANDS | added()
            formatter.write_dl([(name, every[name].help) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 118})
@click.version_option(__version__, prog_name="moorage", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Log what is decided and done, not only what is unusual.")
@click.option("--log-json", is_flag=True, help="Log JSON lines.")
@click.pass_context
def command(ctx: click.Context, verbose: bool, log_json: bool) -> None:
    """Sticky, health-checked connections from Kubernetes pods to services outside the cluster."""
    entry = find(ctx.invoked_subcommand or "")
    if entry and entry.log_level:
        from moorage import log

        log.configure("debug" if verbose else entry.log_level, log_json)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit status.

    0: done. 1: a MoorageError, printed as one line on standard error (one for each of its `errors` where it holds
    several). 2: wrong usage. 130: interrupted. Any other status is the one that the command returned or exited with.
    """
    try:
        result = command.main(args=list(args), prog_name=program.name(), standalone_mode=False)
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
    # Ctrl-C during the import of a command would give a stack trace, or get lost in a callback. Commands that have
    # something to clean up handle it themselves.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES])
    sys.exit(run(sys.argv[1:]))


def _bug(error: Exception) -> str:
    """The text of an unexpected exception, and where it was raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "nowhere"
    return f"a bug in Moorage: {type(error).__name__}: {error} ({where})"


def _one_line(error: MoorageError) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()) or type(error).__name__
