"""Who is moored where in one group: an index of its clients and Moorings that is kept as single ones change.

A decision about ten thousand clients then reads what is left to do, and not ten thousand clients.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Self

from moorage.api.moorings_v1alpha1 import Mooring
from moorage.core.mooring_model import Client, ClientKey
from moorage.core.moorings import client_of, rank, requested, unmarked


@dataclass(slots=True)
class Roster:
    """Use `set_client`, `put` and `discard` to change it. Two of the same clients and Moorings are equal."""

    present: dict[ClientKey, Client] = field(default_factory=dict)
    """Whoever exists and has not finished."""
    moorings: dict[str, Mooring] = field(default_factory=dict)
    """All of the group by name, whoever made them."""
    at: dict[str, list[ClientKey]] = field(default_factory=dict)
    """Endpoint -> the present clients that are recorded there, in order; endpoints without clients are left out."""
    by_owner: dict[str, dict[str, int]] = field(default_factory=dict)
    """Owner -> endpoint -> how many present clients of this owner are recorded there."""
    unassigned: set[ClientKey] = field(default_factory=set)
    """Present clients without a record."""
    away: set[ClientKey] = field(default_factory=set)
    """Clients that have a Mooring and are not present."""
    noted: set[ClientKey] = field(default_factory=set)
    """Whose Mooring has a message or a request, or lacks a label."""
    strayed: set[ClientKey] = field(default_factory=set)
    """Whose Mooring has another endpoint than their home."""
    crowded: set[ClientKey] = field(default_factory=set)
    """Those with several Moorings."""
    _of: dict[ClientKey, tuple[Mooring, ...]] = field(default_factory=dict)
    """The Moorings of a client, the one that counts first."""

    @classmethod
    def of(cls, present: Mapping[ClientKey, Client], moorings: Iterable[Mooring]) -> Self:
        """The roster of these."""
        made = cls()
        for key, client in present.items():
            made.set_client(key, client)
        for each in moorings:
            made.put(each)
        return made

    def copy(self) -> Self:
        """One that does not change with this one."""
        made = type(self)(**{each.name: getattr(self, each.name).copy() for each in fields(self)})
        made.at = {name: clients.copy() for name, clients in self.at.items()}
        made.by_owner = {owner: counts.copy() for owner, counts in self.by_owner.items()}
        return made

    # --- What there is -------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Of clients and Moorings."""
        return len(self.present) + len(self.moorings)

    def mooring(self, key: ClientKey) -> Mooring | None:
        """The Mooring of a client. If there are several, the one with a record counts, then the oldest, then the
        first by name."""
        found = self._of.get(key)
        return found[0] if found else None

    def surplus(self) -> list[Mooring]:
        """Moorings that do not count, because their client has another one."""
        return sorted((each for key in self.crowded for each in self._of[key][1:]), key=rank)

    def moorings_of(self, key: ClientKey) -> tuple[Mooring, ...]:
        """All of one client."""
        return self._of.get(key, ())

    def endpoint(self, key: ClientKey) -> str | None:
        """Where a present client is recorded."""
        mooring = self.mooring(key) if key in self.present else None
        return mooring.status.endpoint if mooring else None

    # --- What changes --------------------------------------------------------------------------------------------

    def set_client(self, key: ClientKey, client: Client | None) -> None:
        """A client is present; None: it is not."""
        if self.present.get(key) == client:
            return
        self._forget(key)
        if client is None:
            del self.present[key]
        else:
            self.present[key] = client
        self._note(key)

    def put(self, mooring: Mooring) -> None:
        """A Mooring is there as it is now."""
        name = mooring.metadata.name
        old = self.moorings.get(name)
        if old is mooring:
            return
        key = client_of(mooring)
        if old is not None and client_of(old) != key:
            self.discard(name)
        self._forget(key)
        self.moorings[name] = mooring
        others = [each for each in self._of.get(key, ()) if each.metadata.name != name]
        self._of[key] = tuple(sorted((*others, mooring), key=rank)) if others else (mooring,)
        self._note(key)

    def discard(self, name: str) -> bool:
        """A Mooring is gone. Returns whether it was there."""
        old = self.moorings.pop(name, None)
        if old is None:
            return False
        key = client_of(old)
        self._forget(key)
        left = tuple(each for each in self._of.pop(key) if each is not old)
        if left:
            self._of[key] = left
        self._note(key)
        return True

    def _note(self, key: ClientKey) -> None:
        """Have in the indexes what there is of a client."""
        client, found = self.present.get(key), self._of.get(key)
        if client is not None and not (found and found[0].status.endpoint):
            self.unassigned.add(key)
        if found is None:
            return
        mooring = found[0]
        record = mooring.status
        if client is None:
            self.away.add(key)
        elif record.endpoint:
            insort(self.at.setdefault(record.endpoint, []), key)
            if client.owner:
                counts = self.by_owner.setdefault(client.owner, {})
                counts[record.endpoint] = counts.get(record.endpoint, 0) + 1
        if record.message or requested(mooring) or unmarked(mooring):
            self.noted.add(key)
        if record.home and record.home != record.endpoint:
            self.strayed.add(key)
        if len(found) > 1:
            self.crowded.add(key)

    def _forget(self, key: ClientKey) -> None:
        """The opposite of `_note`, before something changes."""
        for keys in (self.unassigned, self.away, self.noted, self.strayed, self.crowded):
            keys.discard(key)
        endpoint = self.endpoint(key)
        if not endpoint:
            return
        clients = self.at[endpoint]
        del clients[bisect_left(clients, key)]
        if not clients:
            del self.at[endpoint]
        if owner := self.present[key].owner:
            counts = self.by_owner[owner]
            counts[endpoint] -= 1
            if not counts[endpoint]:
                del counts[endpoint]
                if not counts:
                    del self.by_owner[owner]
