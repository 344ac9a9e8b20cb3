"""An nft that is killed by a signal is reported as that, with its version and the table that it cannot read."""

import os
import signal
from pathlib import Path

import pytest

from moorage import proc
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.crashes import MAX_TABLES, refusal, signal_of, words
from moorage.dataplane.model import ServiceAddress
from moorage.dataplane.nft import KernelNft, NftCrashError
from moorage.dataplane.sync import Synchronizer
from tests.support.states import port

KEY = ServiceAddress("10.96.0.1", "tcp", 80)

FAKE = """\
#!/bin/sh
# Says its version, lists chains, and dies over everything that looks at sets: its own words come first.
ulimit -c 0
echo "$@" >>"$LOG"
case "$*" in
--version) echo 'nftables v1.0.6 (Lester Gooch #5)' ;;
'list chains') printf 'table inet healthy {\\n\\tchain c {\\n\\t}\\n}\\ntable ip6 kube-proxy {\\n}\\n' ;;
'--terse list table inet healthy') echo 'table inet healthy { }' ;;
*"$SPARED"*) echo '{"nftables": []}' ;;
*) echo '/dev/stdin:3:1-4: Error: syntax error, unexpected newline' >&2; kill -s "$SIGNAL" $$ ;;
esac
"""


class Dying(KernelNft):
    """Runs the program above instead of nft."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log

    @property
    def asked(self) -> list[str]:
        """The command lines, in order."""
        return self._log.read_text().splitlines()


@pytest.fixture(params=["SEGV", "ABRT"])
def nft(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dying:
    program, log = tmp_path / "nft", tmp_path / "log"
    program.write_text(FAKE)
    program.chmod(0o755)
    for name, value in (("SIGNAL", request.param), ("SPARED", "nothing"), ("LOG", str(log))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Dying(log)


def well_told(message: str) -> bool:
    """Whether all is there that a person needs, in one line."""
    return (
        message.startswith("nft 1.0.6 was killed by SIG")
        and "cannot read table ip6 kube-proxy, which a newer nft made" in message
        and "upgrade" in message
        and "inet healthy" not in message
        and "\n" not in message
    )


async def test_a_transaction_that_kills_it_names_the_table_version_and_way_out(nft: Dying) -> None:
    with pytest.raises(NftCrashError) as caught:
        await nft.run("add element inet moorage digest { 1 }\n")
    assert well_told(str(caught.value))
    assert "doing: a transaction on table inet moorage" in str(caught.value)


async def test_a_listing_that_kills_it_says_which(nft: Dying) -> None:
    with pytest.raises(NftCrashError) as caught:
        await nft.elements("sessions4")
    assert well_told(str(caught.value))
    assert "doing: list map inet moorage sessions4" in str(caught.value)


async def test_no_service_is_blamed_for_it(nft: Dying, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists work, so that the first transaction is what kills it; then it is asked what it does not take."""
    monkeypatch.setenv("SPARED", "--json")
    sync = Synchronizer(nft, FakeConntrack(), Capabilities(learn6=False))
    with pytest.raises(NftCrashError) as caught:
        await sync.sync({KEY: port(KEY, [1], 60)}, {KEY})
    assert well_told(str(caught.value))
    assert sync.refused == {}


async def test_the_search_for_its_cause_is_bounded(nft: Dying, monkeypatch: pytest.MonkeyPatch) -> None:
    many = "".join(f"table ip t{number} {{\\n}}\\n" for number in range(3 * MAX_TABLES))
    program = nft._log.with_name("nft")
    program.write_text(FAKE.replace("table inet healthy {\\n\\tchain c {\\n\\t}\\n}\\n", many))
    with pytest.raises(NftCrashError):
        await nft.run("")
    assert len(nft.asked) <= MAX_TABLES + 3


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (0, None),
        (1, None),
        (128, None),
        (-signal.SIGHUP, "SIGHUP (1)"),
        (-signal.SIGSEGV, "SIGSEGV (11)"),
        (128 + signal.SIGABRT, "SIGABRT (6)"),
        (255, "signal 127"),
    ],
)
def test_a_signal_is_told_from_a_status(status: int, name: str | None) -> None:
    assert signal_of(proc.Completed(status, "", "")) == name


def test_where_no_table_is_to_blame_the_advice_is_to_upgrade() -> None:
    assert words("SIGSEGV (11)", proc.Completed(-11, "", ""), "list chains", "1.0.6") == (
        "nft 1.0.6 was killed by SIGSEGV (11), while doing: list chains; upgrade nft to 1.1 or newer, no older than "
        "any nft that makes tables on this node"
    )


def test_a_refusal_is_one_line_with_nfts_words_and_the_part_at_fault() -> None:
    script = "add table inet moorage\nadd element inet moorage digest { 1, 2, 99999 }"
    stderr = (
        "/dev/stdin:2:41-45: Error: Could not process rule: File exists\n"
        "add element inet moorage digest { 1, 2, 99999 }\n          ^^^^^\n"
    )
    assert (
        refusal(proc.Completed(1, "", stderr), script) == "nft: File exists: add element inet moorage digest: 99999"
    )


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (proc.Completed(1, "", "Operation not permitted (you must be root)\n"), "NET_ADMIN"),
        (
            proc.Completed(-6, "", "nft: netlink.c:304: Assertion failed\n"),
            "SIGABRT (6), after saying: nft: netlink.c",
        ),
        (proc.Completed(134, "", ""), "killed by SIGABRT (6); upgrade nft"),
        (proc.Completed(1, "", "netlink: Error: Could not process rule: Message too long\n"), "Message too long"),
        (proc.Completed(1, "", ""), "status 1"),
    ],
)
def test_other_failures_say_what_to_do(done: proc.Completed, words: str) -> None:
    assert words in refusal(done, "")
