"""The names in the lab's internet: records that people add, and a name server's answers from them. Pure.

They are kept as text in master file form (RFC 1035, 5), which `dig` prints, too.
"""

from collections.abc import Iterable, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zonefile
from dns.name import Name
from dns.rdataclass import IN
from dns.rdatatype import RdataType
from dns.rrset import RRset

from moorage.errors import MoorageError

TTL_SECONDS = 1
"""Of every answer, also of negative ones, so that changes are seen at once."""
MAX_DATAGRAM_BYTES = 512
"""The largest answer over UDP to a client that does not announce a size (RFC 1035, 4.2.1)."""
_CLUSTERS = "cluster.local."
"""Names below it are answered by each cluster's own name server."""
_SOA = dns.rrset.from_text(".", TTL_SECONDS, "IN", "SOA", f"internet. lab.internet. 1 1 1 1 {TTL_SECONDS}")


class Zone:
    """All records, in the order in which they were added. Immutable."""

    def __init__(self, records: Iterable[RRset] = ()) -> None:
        self.records = tuple(records)

    @classmethod
    def read(cls, text: str) -> "Zone":
        """Raises MoorageError for text that is no master file."""
        try:
            return cls(dns.zonefile.read_rrsets(text, rdclass=None, default_ttl=TTL_SECONDS))
        except dns.exception.DNSException as error:
            raise MoorageError(f"the lab's DNS records: {error}") from None

    def __str__(self) -> str:
        return "".join(f"{rrset}\n" for rrset in self.records)

    def with_records(self, name: str, data: Sequence[str]) -> "Zone":
        """A zone in which these records replace all records of `name`.

        Each is an address, for an A or AAAA record, or `PRIORITY WEIGHT PORT TARGET`, for an SRV record (RFC 2782).
        Raises MoorageError for an invalid name or record.
        """
        owner = parse_name(name)
        if owner.is_subdomain(dns.name.from_text(_CLUSTERS)):
            raise MoorageError(f"{name}: names below {_CLUSTERS} are the clusters' own Services; choose another")
        added: dict[RdataType, RRset] = {}
        for text in data:
            rdata = _rdata(text)
            added.setdefault(rdata.rdtype, RRset(owner, IN, rdata.rdtype)).add(rdata, TTL_SECONDS)
        return Zone([*(rrset for rrset in self.records if rrset.name != owner), *added.values()])

    def without(self, name: str) -> "Zone":
        """A zone without the records of `name`. Raises MoorageError if it has none."""
        owner = parse_name(name)
        left = [rrset for rrset in self.records if rrset.name != owner]
        if len(left) == len(self.records):
            names = ", ".join(dict.fromkeys(rrset.name.to_text(True) for rrset in self.records)) or "none"
            raise MoorageError(f"{name}: has no records; names that have some: {names}")
        return Zone(left)

    def rows(self) -> list[list[str]]:
        """Name, type and data of each record."""
        return [
            [rrset.name.to_text(True), dns.rdatatype.to_text(rrset.rdtype), str(rdata)]
            for rrset in self.records
            for rdata in rrset
        ]

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """The answer of a name server that is authoritative for all names (RFC 2308 for names that do not exist)."""
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        if len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
            return response
        [question] = query.question
        response.answer += [
            rrset for rrset in self.records if (rrset.name, rrset.rdtype) == (question.name, question.rdtype)
        ]
        if not response.answer:
            response.authority.append(_SOA)
            if not any(rrset.name.is_subdomain(question.name) for rrset in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
        return response

    def answer_datagram(self, wire: bytes) -> bytes:
        """The answer to a query over UDP; an answer that does not fit is marked as truncated.

        Raises dns.exception.DNSException for anything but a query.
        """
        query = dns.message.from_wire(wire)
        response = self.answer(query)
        try:
            return response.to_wire(max_size=max(query.payload, MAX_DATAGRAM_BYTES))
        except dns.exception.TooBig:
            response.flags |= dns.flags.TC
            response.answer.clear()
            return response.to_wire()


def parse_name(text: str) -> Name:
    """Parse an absolute name, with or without the last dot. Raises MoorageError for anything else."""
    try:
        name = dns.name.from_text(text)
    except dns.exception.DNSException as error:
        raise MoorageError(f"{text!r}: not a DNS name: {error}") from None
    if name == dns.name.root:
        raise MoorageError(f"{text!r}: not the name of a host; write one such as db.example.com")
    return name


def _rdata(text: str) -> dns.rdata.Rdata:
    type_ = "SRV" if " " in text else "AAAA" if ":" in text else "A"
    try:
        return dns.rdata.from_text("IN", type_, text, origin=dns.name.root, relativize=False)
    except dns.exception.DNSException:
        raise MoorageError(
            f"{text!r}: neither an address nor an SRV record, such as '0 1 5432 db1.example.com'"
        ) from None
