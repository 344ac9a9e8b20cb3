"""What the leader remembers of ExternalServices."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from moorage.api.meta import ObjectKey
from moorage.cluster.pace import Pace
from moorage.cluster.store import Reverse
from moorage.operator.authorities import CheckAuthority
from moorage.operator.endpoint_health import EndpointHealth

SHARE, BURST_SECONDS = 0.1, 4.0
"""The share of the time that changes of one ExternalService may take, and how much at once: one whose endpoints come
and go all the time, or that somebody keeps changing back, must leave time for the others. A change counts as at most
a second, because back-off bounds failures anyway. A refusal counts as a second once the status says so: the watch
then shows that status, which ends the back-off."""
NOT_REPORTED = -1
"""No object has this generation."""


def _pace() -> Pace:
    return Pace(SHARE, BURST_SECONDS)


@dataclass(slots=True)
class Record:
    """What the leader remembers about one ExternalService, from its first look until the object is gone."""

    key: ObjectKey
    health: EndpointHealth = field(default_factory=EndpointHealth)
    authority: CheckAuthority | None = None
    """The authorities that its checks trust, if they name a Secret."""
    pace: Pace = field(default_factory=_pace)
    """Limits the seconds of work on changes."""
    conflicts: int = 0
    """Failures in a row."""
    unreached: int = 0
    """How often in a row a write did not reach the API server."""
    settled_at: float | None = None
    """If nothing has been written for it yet: until when to let it settle, by the event loop's clock."""
    obstacles: set[ObjectKey] = field(default_factory=set)
    """Names that our slices cannot have, because slices of others have them."""
    sources: int = 0
    failing_sources: int = 0
    addresses: frozenset[str] = frozenset()
    """The addresses that its sources have found, admitted or not, and those kept for silent sources; see `use`."""
    unreadable_event: int | None = NOT_REPORTED
    """The generation for which an Event has said that it cannot be read."""
    unreadable_status: int | None = NOT_REPORTED
    """The generation for which the status says so, or cannot say so."""


class Records:
    """The records of all ExternalServices, and an index of them by address."""

    def __init__(self) -> None:
        self._records: dict[ObjectKey, Record] = {}
        self._users = Reverse[ObjectKey, str]()

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, key: ObjectKey) -> Record | None:
        return self._records.get(key)

    def of(self, key: ObjectKey) -> Record:
        """The record of an ExternalService, created if there is none."""
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = Record(key)
        return record

    def drop(self, key: ObjectKey) -> None:
        """Forget everything about an ExternalService."""
        if (record := self._records.get(key)) is not None:
            self.use(record, frozenset())
            del self._records[key]

    def use(self, record: Record, addresses: frozenset[str]) -> None:
        """Note that it has, or would have, endpoints at these addresses."""
        record.addresses = addresses
        self._users.put(record.key, addresses)

    def users(self, addresses: Iterable[str]) -> set[ObjectKey]:
        """The ExternalServices that have, or would have, an endpoint at one of these addresses."""
        return {key for address in addresses for key in self._users.keys(address)}
