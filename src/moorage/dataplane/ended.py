"""Forgets what the kernel has learned of clients that are no more.

A pod's address is used again. The next pod that has it would be led where the last one was pinned, and would not wait
for its mooring where the last one has waited.
"""

from collections.abc import Collection, Mapping

from moorage.dataplane import sessions
from moorage.dataplane.elements import MAX_SMALL
from moorage.dataplane.layout import Layout
from moorage.dataplane.model import Moored, ServicePort, Unit, UnitKey
from moorage.dataplane.nft import Nft
from moorage.dataplane.schema import FAMILIES, OF_FAMILY
from moorage.dataplane.sessions import Correction

MAX_ATTEMPTS = 3
"""How often sessions are read again that change while they are being forgotten: a new pod has the address already."""


async def forget(nft: Nft, clients: Collection[str], state: Mapping[UnitKey, Unit]) -> int:
    """Forget the sessions of these clients (addresses) at moored ports, and that they have waited there.

    Returns how many sessions were forgotten. Raises NftError.
    """
    moored = {
        key for key, unit in state.items() if isinstance(unit, ServicePort) and isinstance(unit.affinity, Moored)
    }
    if not moored or not clients:
        return 0
    for _ in range(MAX_ATTEMPTS):
        pinned = [each for each in await sessions.read(nft) if each.client in clients and each.key in moored]
        if await sessions.correct(nft, [Correction(each) for each in pinned]) is None:
            break
    for family in FAMILIES:
        client, name = Layout([family.type]), OF_FAMILY[family.number].waited.name
        starts = tuple(client.pack([each]) for each in clients if (":" in each) == (family.number == 6))
        old = [each for each in await nft.learned(name) if each.key.startswith(starts)]
        for first in range(0, len(old), MAX_SMALL):
            await nft.relearn(name, old[first : first + MAX_SMALL], [])
    return len(pinned)
