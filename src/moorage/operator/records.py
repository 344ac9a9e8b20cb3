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
and go without end, or which somebody else changes back, must leave the API server and this process to the others.
A change counts for a second at most, because failures are held by back-off anyway. A refusal counts for a second once
the status says it: the watch then shows that status, which ends the back-off."""
NOT_REPORTED = -1
"""No object has this generation."""


def _pace() -> Pace:
    return Pace(SHARE, BURST_SECONDS)


@dataclass(slots=True)
class Record:
    """What is remembered of one ExternalService, from the first look at it until it is gone."""

    key: ObjectKey
    health: EndpointHealth = field(default_factory=EndpointHealth)
    authority: CheckAuthority | None = None
    """What its checks trust, if they name a Secret for that."""
    pace: Pace = field(default_factory=_pace)
    """Of seconds of work on changes."""
    conflicts: int = 0
    """In a row."""
    unreached: int = 0
    """How often in a row the API server could not be reached to write."""
    settled_at: float | None = None
    """If nothing was ever written of it: until when it may settle, by the event loop's clock."""
    obstacles: set[ObjectKey] = field(default_factory=set)
    """Slices of others that have names which ours would have had."""
    sources: int = 0
    failing_sources: int = 0
    addresses: frozenset[str] = frozenset()
    """Those that its sources have found, admitted or not, and those that are kept of silent sources; see `use`."""
    unreadable_event: int | None = NOT_REPORTED
    """The generation of which an Event said that it cannot be read."""
    unreadable_status: int | None = NOT_REPORTED
    """The generation of which the status says so, or cannot say so."""


class Records:
    """One for each ExternalService, and for each address the records that use it."""

    def __init__(self) -> None:
        self._records: dict[ObjectKey, Record] = {}
        self._users = Reverse[ObjectKey, str]()

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, key: ObjectKey) -> Record | None:
        return self._records.get(key)

    def of(self, key: ObjectKey) -> Record:
        """Made if need be."""
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
        """It has, or would have, endpoints at these addresses."""
        record.addresses = addresses
        self._users.put(record.key, addresses)

    def users(self, addresses: Iterable[str]) -> set[ObjectKey]:
        """The ExternalServices that have, or would have, an endpoint at one of these addresses."""
        return {key for address in addresses for key in self._users.keys(address)}
