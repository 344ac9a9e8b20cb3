"""What happened during a churn run: one record a line, as JSON.

All times (`at`, `start`) are seconds of this machine's CLOCK_MONOTONIC, which network namespaces share. Clients, the
watches of the API, and whoever makes the faults each write records of their own; `merged` puts them in order. What is
not recorded counts as not known: a connection without an end may be open, or its client may have been killed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event", tag=str.lower):
    """`event` in JSON is the name of the class in lower case."""

    at: float


Part = Literal["endpoint", "operator", "agent", "api"]
"""What can be down."""


# --- What the run did --------------------------------------------------------------------------------------------


class Run(Record, frozen=True):
    """It began."""

    seed: int
    nodes: list[str]
    """Those with an agent."""


class Down(Record, frozen=True):
    """From now on something does not do its work, because of the run."""

    what: Part
    name: str = ""
    """Of the endpoint, or of the agent's node. `operator` is whoever leads."""


class Up(Record, frozen=True):
    """It is there again. For `operator`: somebody leads."""

    what: Part
    name: str = ""


class Edit(Record, frozen=True):
    """A person is about to change `spec.endpoint` of a Mooring."""

    service: str
    client: str
    endpoint: str


class Stall(Record, frozen=True):
    """Until now this machine has not let the recorder run since `start`."""

    start: float


# --- What a watch of the API told --------------------------------------------------------------------------------


class Spec(Record, frozen=True):
    """What an ExternalService says. The group of its moorings has its name."""

    service: str
    kind: str
    """What counts as one client: `Pod`, `Node`."""
    weights: dict[str, int]
    """Of its endpoints, by name."""
    proxy: Literal["moorage", "kube-proxy"] = "moorage"
    """Who carries it: node agents, or kube-proxy by hints."""
    drained: list[str] = []
    returns: bool = False
    """Whether clients return to their home."""
    taking: list[str] = []
    """Endpoints that take new clients, by its status: healthy, not drained."""


class Slices(Record, frozen=True):
    """What all EndpointSlices of a Service come to: the endpoints that serve, and those of them that are ready."""

    service: str
    serving: list[str]
    ready: list[str]


class Pod(Record, frozen=True):
    """A pod that connects."""

    uid: str
    name: str
    node: str = ""
    address: str = ""
    life: Literal["present", "ending", "finished", "gone"] = "present"


class Mooring(Record, frozen=True):
    """A Mooring as it is now."""

    service: str
    client: str
    """`Pod/frontend-0`, `Node/b-node-1`."""
    requested: str
    """`spec.endpoint`."""
    endpoint: str = ""
    """`status.endpoint`, and the rest of the operator's record."""
    reason: str = ""
    previous: str = ""
    home: str = ""
    refused: bool = False
    """The operator has said why it does not follow `requested`."""
    gone: bool = False
    """It has been deleted."""


# --- What clients met --------------------------------------------------------------------------------------------


class Connected(Record, frozen=True):
    """A connection was made, and an endpoint has said its name."""

    id: str
    pod: str
    """Its uid."""
    worker: str
    """Who makes one connection after the other, in that pod."""
    service: str
    start: float
    """When it was begun."""
    endpoint: str


class Failed(Record, frozen=True):
    """A connection was not made, or nobody said a name on it."""

    pod: str
    worker: str
    service: str
    start: float
    error: str


class Open(Record, frozen=True):
    """The endpoint of a connection has answered again."""

    id: str


class Ended(Record, frozen=True):
    """`closed` by its client, or else broken: in what way."""

    id: str
    how: str


# --- What a kernel held, once it was quiet ------------------------------------------------------------------------


class Kernel(Record, frozen=True):
    """The table of a node's agent, read when nothing had happened for a while."""

    node: str
    misses: int
    """How often the first look-up found nothing where there is something."""
    moorings: dict[str, dict[str, str]]
    """Service -> address of a client -> endpoint."""
    ready: dict[str, list[str]]
    """Service -> the endpoints that clients without a mooring are led to."""


AnyRecord = (
    Run | Down | Up | Edit | Stall | Spec | Slices | Pod | Mooring | Connected | Failed | Open | Ended | Kernel
)
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyRecord)


def line(record: AnyRecord) -> bytes:
    return _encoder.encode(record) + b"\n"


def read(path: Path) -> list[AnyRecord]:
    """The records of a file. A last line that is not whole is left out: who wrote it was killed."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    found: list[AnyRecord] = _decoder.decode_lines(whole)
    return found


def write(path: Path, records: Iterable[AnyRecord]) -> None:
    path.write_bytes(b"".join(map(line, records)))


def merged(*parts: Iterable[AnyRecord]) -> list[AnyRecord]:
    """All records, by time."""
    return sorted((record for part in parts for record in part), key=lambda record: record.at)
