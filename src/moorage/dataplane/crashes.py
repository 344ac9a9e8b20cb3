"""An nft that is killed by a signal: what it was doing, which version it is, and whose table it cannot read.

It happens where two versions of nft share a kernel. nft 1.0.6 dies by SIGSEGV over a plain set, or a verdict map,
that a newer nft declared with `type`, also where that is in a table of somebody else that it only looks at
(kubernetes/kubernetes issue 136786).
"""

import re
import signal
from collections.abc import Awaitable, Callable, Iterator

from moorage import proc

MAX_TABLES = 20
"""Most tables that are tried after a crash."""

Run = Callable[..., Awaitable[proc.Completed]]
"""Runs nft with these arguments."""

_TABLE = re.compile(r"^table (\S+) (\S+) \{", re.MULTILINE)


def signal_of(done: proc.Completed) -> str | None:
    """The signal that ended the program, `SIGSEGV` (11), ...; None where it ended by itself.

    A shell in between tells a signal as 128 and its number.
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
    """One line: what died by the signal `name`, and what to do.

    `doing`: what it was to do, as a person would type it; `version`: of nft; `unreadable`: tables, as `inet name`,
    over which it dies as well.
    """
    said = next((line for line in done.stderr.splitlines() if line.strip()), "")
    what = f"nft{' ' if version else ''}{version} was killed by {name}{f', doing: {doing}' if doing else ''}"
    because = f", having said: {said[:120]}" if said else ""
    if not unreadable:
        return f"{what}{because}; upgrade nft to 1.1 or newer, no older than any nft that makes tables on this node"
    tables = " and ".join(f"table {each}" for each in unreadable)
    return (
        f"{what}{because}; it cannot read {tables}, which a newer nft made: upgrade this nft to that version, or let "
        "the owner of that table declare its sets with typeof"
    )


async def explain(done: proc.Completed, name: str, doing: str, run: Run) -> str:
    """`words`, once it is known which version it is and over which tables it dies. Changes nothing."""
    version = (await run("--version")).stdout.partition("\n")[0].removeprefix("nftables v").partition(" ")[0]
    # Of all listings this one looks at no set. A family without tables is listed as nothing.
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
