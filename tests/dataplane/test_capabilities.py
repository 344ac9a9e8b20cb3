from pathlib import Path

import pytest

from moorage.dataplane.capabilities import OLDEST_NFT, Capabilities, parse_version, probe
from moorage.dataplane.nft import KernelNft, NftError
from moorage.errors import MoorageError
from tests.support.netns import Namespace


class StubNft(KernelNft):
    """Answers `version` and `check` as told, and asks nothing of the machine."""

    def __init__(self, version: str = "nftables v1.1.3 (Commodore Bullmoose #4)", accepts: bool = True) -> None:
        super().__init__()
        self._answer = version
        self._accepts = accepts

    async def version(self) -> str:
        return self._answer

    async def check(self, script: str) -> bool:
        return self._accepts

    async def chains(self) -> set[str]:
        return set()


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("nftables v1.0.6 (Lester Gooch #5)", (1, 0, 6)),
        ("nftables v1.1.3 (Commodore Bullmoose #4)", (1, 1, 3)),
        ("nftables v1.1 (x)", (1, 1)),
    ],
)
def test_reads_the_version(line: str, version: tuple[int, ...]) -> None:
    assert parse_version(line) == version


@pytest.mark.parametrize("line", ["nftables v1.0.5 (Lester Gooch #4)", "nftables v0.9.8 (E.D.S.)", "", "nft: what?"])
def test_an_old_or_unknown_version_says_which_to_install(line: str) -> None:
    with pytest.raises(MoorageError, match=r"install nftables 1\.0\.6 or newer"):
        parse_version(line)


@pytest.mark.parametrize("accepts", [True, False])
async def test_sessions_of_ipv6_are_learned_where_nft_takes_the_rule(accepts: bool) -> None:
    assert (await probe(StubNft(accepts=accepts))).learn6 is accepts


@pytest.mark.parametrize(("content", "loose"), [("0\n", False), ("1\n", True), (None, True)])
async def test_reads_whether_flows_are_taken_up_in_the_middle(
    tmp_path: Path, content: str | None, loose: bool
) -> None:
    path = tmp_path / "nf_conntrack_tcp_loose"
    if content is not None:
        path.write_text(content)
    assert (await probe(StubNft(), path)).tcp_loose is loose


async def test_on_this_machine_nft_1_1_can_learn_ipv6_and_1_0_6_cannot(netns: Namespace) -> None:
    nft = KernelNft(netns.prefix)
    found = await probe(nft)
    assert found.learn6 or found.version < (1, 1)
    assert not found.learn6 or found.version > OLDEST_NFT
    assert netns.run("nft", "list", "tables") == "", "the probe leaves nothing behind"


async def test_probing_without_the_permission_is_an_error_and_not_a_no(netns: Namespace) -> None:
    powerless = KernelNft((*netns.prefix, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"))
    with pytest.raises(NftError, match="Operation not permitted"):
        await probe(powerless)


def test_only_what_a_person_should_know_is_a_warning() -> None:
    assert Capabilities().warnings == []
    assert "IPv6" in Capabilities(learn6=False).warnings[0]
    assert "nf_conntrack_tcp_loose" in Capabilities(tcp_loose=False).warnings[0]
