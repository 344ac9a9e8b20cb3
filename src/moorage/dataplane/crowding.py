"""Tells the rules when the map of sessions is nearly full.

A client whose session has expired chooses anew (`ruleset`). One that gets no session, because there is no room, would
choose anew each second: such clients have to choose by their address alone, and only an agent can see that it has
come to that.
"""

from collections.abc import Iterable

from moorage.dataplane import schema
from moorage.dataplane.nft import Nft
from moorage.dataplane.schema import OF_FAMILY, TABLE

CROWDED_PERCENT, ROOMY_PERCENT = 90, 75
"""From how much of the room on clients choose by their address alone, and below how much no more. Each change moves
clients that have no session, so the second must not soon follow the first."""
EVERYBODY = {4: "0.0.0.0/0", 6: "::/0"}


def is_crowded(sessions: int, room: int, before: bool) -> bool:
    """Whether clients should choose by their address alone, while there are so many sessions in a map that takes
    `room`; `before`: whether they do so now."""
    return sessions * 100 >= room * (ROOMY_PERCENT if before else CROWDED_PERCENT)


class Crowding:
    """What is known of the maps of sessions of some families."""

    def __init__(self, nft: Nft, families: Iterable[int]) -> None:
        """`families`: 4 and 6, as far as sessions can be learned."""
        self._nft = nft
        self.sessions = dict.fromkeys(sorted(families), 0)
        """By family: how many there were at the last look."""
        self.crowded = set(self.sessions)
        """The families whose clients choose by their address alone. Until the first look that is taken for so: an
        earlier agent may have left it like that."""

    async def look(self) -> list[str]:
        """Count the sessions, and tell the rules; returns a line for each family that is crowded. Raises NftError."""
        for family in self.sessions:
            containers, room = OF_FAMILY[family], schema.MAX_SESSIONS
            count = self.sessions[family] = await self._nft.learned_count(containers.sessions.name)
            name = containers.crowded.name
            before = family in self.crowded and bool(await self._nft.elements(name))
            now = is_crowded(count, room, before)
            if now != before:
                command = "add" if now else "delete"
                await self._nft.run(f"{command} element {TABLE} {name} {{ {EVERYBODY[family]} }}\n")
            (self.crowded.add if now else self.crowded.discard)(family)
        return [
            f"IPv{family}: {self.sessions[family]:,} of {schema.MAX_SESSIONS:,} sessions are taken: clients without "
            "one choose by their address alone; shorten timeoutSeconds of Services with many clients, or have fewer "
            "clients on this node"
            for family in sorted(self.crowded)
        ]
