"""Notices soon that somebody has deleted the table, as `nft flush ruleset` does: linux/netfilter/nf_tables.h.

It asks the kernel for the table's handle, which is another one once the table was deleted and made anew.

The kernel would also notify of each change (NFNLGRP_NFTABLES). But as long as anybody listens, it makes a notice of 4
KB or more about each element of any table before it sends the first: 800 MB of kernel memory for a transaction of
somebody else's with 100,000 elements, which takes 15 MB otherwise, and at times five times as much processor time.
"""

import asyncio
import struct

from moorage.dataplane import netlink
from moorage.dataplane.netlink import INET, NFTABLES, attribute, message
from moorage.dataplane.nft import TABLE_NAME

POLL_SECONDS = 0.25
"""How often to ask."""

_GET = NFTABLES << 8 | 1  # NFT_MSG_GETTABLE
_NAME, _HANDLE = 1, 4  # NFTA_TABLE_*
_REQUEST = message(_GET, 0, INET, attribute(_NAME, f"{TABLE_NAME}\0".encode()))


class Presence:
    """Waits for the table to be deleted. Close it after use."""

    def __init__(self, connect: netlink.Connect = netlink.connect) -> None:
        """Raises OSError if the kernel does not tell this process: it needs the capability NET_ADMIN."""
        self._socket = connect()
        self._socket.settimeout(netlink.ANSWER_SECONDS)
        try:
            self._handle = self._ask()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()

    async def until_deleted(self) -> None:
        """Return when there is no table, or another one than before. Raises OSError.

        Not only once: whoever deletes the table twice may do so the second time before it has been seen again.
        """
        while True:
            await asyncio.sleep(POLL_SECONDS)
            before, self._handle = self._handle, self._ask()
            if self._handle is None or before not in (None, self._handle):
                return

    def _ask(self) -> int | None:
        """The table's handle; None if there is no table. The kernel answers while it is asked."""
        self._socket.send(_REQUEST)
        data = self._socket.recv(netlink.BUFFER_BYTES)
        try:
            netlink.check(data)
        except FileNotFoundError:
            return None
        [answer] = netlink.messages(data)
        for type, start, _ in netlink.attributes(data, answer.body, answer.end):
            if type == _HANDLE:
                return int(struct.unpack_from("!Q", data, start)[0])
        return None
