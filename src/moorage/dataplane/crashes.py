"""Explains an nft that failed, in one line; if a signal killed it, with its version and whose table it cannot read.

Signals kill it if two versions of nft share a kernel. nft 1.0.6 dies of SIGSEGV when it reads a plain set or a
verdict map that a newer nft has declared with `type`, even in somebody else's table that it only looks at
(kubernetes/kubernetes issue 136786).
"""

import re
import signal
from collections.abc import Awaitable, Callable, Iterator

from moorage import proc

MAX_TABLES = 20
"""How many tables are tried after a crash."""

Run = Callable[..., Awaitable[proc.Completed]]
"""Runs nft with these arguments."""

_TABLE = re.compile(r"^table (\S+) (\S+) \{", re.MULTILINE)


def signal_of(done: proc.Completed) -> str | None:
    """The signal that ended the program, such as `SIGSEGV (11)`; None if it ended by itself.

    A shell in between reports a signal as 128 plus its number.
    """
    number = -done.status if done.status < 0 else done.status - 128
    if number <= 0:
        return None
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def words(
    name: str, done: proc.Completed, doing: str = "", version: str = "", unreadable: tuple[str, ...] = ()
) -> str:
    """One line about an nft that the signal `name` killed, and what to do.

    `doing`: its arguments, as a person would type them; `version`: of nft; `unreadable`: tables, as `inet name`, that
    kill it as well.
    """
    said = next((line for line in done.stderr.splitlines() if line.strip()), "")
    what = f"nft{' ' if version else ''}{version} was killed by {name}{f', while doing: {doing}' if doing else ''}"
    because = f", after saying: {said[:120]}" if said else ""
    if not unreadable:
        return f"{what}{because}; upgrade nft to 1.1 or newer, no older than any nft that makes tables on this node"
    tables = " and ".join(f"table {each}" for each in unreadable)
    return (
        f"{what}{because}; it cannot read {tables}, which a newer nft made: upgrade this nft to that version, or let "
        "the owner of that table declare its sets with typeof"
    )


async def explain(done: proc.Completed, name: str, doing: str, run: Run) -> str:
    """Finds out the version and which tables kill nft, and returns `words` about it. Changes nothing."""
    version = (await run("--version")).stdout.partition("\n")[0].removeprefix("nftables v").partition(" ")[0]
    # The only listing that does not look at any set. A family without tables gives an empty list.
    listing = await run("list", "chains")
    unreadable = [
        f"{family} {table}"
        for family, table in _tables(listing.stdout)
        if signal_of(await run("--terse", "list", "table", family, table)) is not None
    ]
    return words(name, done, doing, version, tuple(unreadable))


def _tables(listing: str) -> Iterator[tuple[str, str]]:
    for match in list(_TABLE.finditer(listing))[:MAX_TABLES]:
        yield match[1], match[2]


_LOCATION = re.compile(r"^/dev/stdin:(\d+):(\d+)-(\d+): ")


def refusal(done: proc.Completed, script: str) -> str:
    """One line about a run of nft that failed: its first error, with the start of the command and the part at fault.

    nft itself repeats the whole line of the script, which may have a thousand elements.
    """
    first = next((line for line in done.stderr.splitlines() if line.strip()), "")
    if (killer := signal_of(done)) is not None:
        return words(killer, done)
    if "Operation not permitted" in done.stderr:
        return "nft: Operation not permitted; run as root, or give the process the capability NET_ADMIN"
    if "Message too long" in done.stderr:
        return "nft: Message too long: the transaction has more elements than the netlink socket's buffer takes"
    told = first
    if location := _LOCATION.match(first):
        line, start, end = (int(group) for group in location.groups())
        lines = script.splitlines()
        told = first[location.end() :]
        if line <= len(lines):
            head = " ".join(lines[line - 1].split()[:5])
            told = f"{told}: {head}: {lines[line - 1][start - 1 : end][:120]}"
    told = told.removeprefix("Error: ").removeprefix("Could not process rule: ")
    return f"nft: {told or f'failed with status {done.status} and said nothing'}"
