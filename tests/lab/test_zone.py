import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from moorage.errors import MoorageError
from moorage_lab.zone import Zone, parse_name

SRV = "_db._tcp.example.com"
ZONE = (
    Zone()
    .with_records("db.example.com", ["203.0.113.1", "203.0.113.2", "2001:db8::1"])
    .with_records(SRV, ["0 1 5432 db.example.com."])
)


def ask(zone: Zone, name: str, type: str) -> dns.message.Message:
    return zone.answer(dns.message.make_query(name, type))


def data(zone: Zone, name: str, type: str) -> list[str]:
    return sorted(str(rdata) for rrset in ask(zone, name, type).answer for rdata in rrset)


def test_names_are_answered_by_type() -> None:
    assert data(ZONE, "db.example.com", "A") == ["203.0.113.1", "203.0.113.2"]
    assert data(ZONE, "DB.example.com", "AAAA") == ["2001:db8::1"]
    assert data(ZONE, SRV, "SRV") == ["0 1 5432 db.example.com."]


@pytest.mark.parametrize(
    ("name", "type", "rcode"),
    [
        ("db.example.com", "SRV", dns.rcode.NOERROR),
        ("example.com", "A", dns.rcode.NOERROR),
        ("nobody.example.com", "A", dns.rcode.NXDOMAIN),
        ("b.db.example.com", "A", dns.rcode.NXDOMAIN),
    ],
)
def test_what_is_not_there_is_denied_for_a_second(name: str, type: str, rcode: dns.rcode.Rcode) -> None:
    answer = ask(ZONE, name, type)
    assert (answer.rcode(), answer.answer) == (rcode, [])
    [soa] = answer.authority
    assert (soa.rdtype, soa.ttl, soa[0].minimum) == (dns.rdatatype.SOA, 1, 1)


def test_setting_a_name_replaces_all_that_it_had_and_nothing_else() -> None:
    changed = ZONE.with_records("db.example.com.", ["203.0.113.9"])
    assert data(changed, "db.example.com", "A") == ["203.0.113.9"]
    assert data(changed, "db.example.com", "AAAA") == []
    assert data(changed, SRV, "SRV") == data(ZONE, SRV, "SRV")


def test_a_name_can_be_removed() -> None:
    left = ZONE.without("db.example.com")
    assert left.rows() == [[SRV, "SRV", "0 1 5432 db.example.com."]]
    with pytest.raises(MoorageError, match=r"^db\.example\.com: has no records; names that have some: _db\._tcp"):
        left.without("db.example.com")
    with pytest.raises(MoorageError, match="names that have some: none"):
        Zone().without("db.example.com")


def test_what_is_written_is_read_again() -> None:
    assert Zone.read(str(ZONE)).rows() == ZONE.rows()
    with pytest.raises(MoorageError, match="the lab's DNS records"):
        Zone.read("nonsense")


@pytest.mark.parametrize("record", ["db.example.com", "203.0.113", "0 1 port db.example.com", ""])
def test_what_is_no_record_is_refused(record: str) -> None:
    with pytest.raises(MoorageError, match="neither an address nor an SRV record"):
        Zone().with_records("db.example.com", [record])


@pytest.mark.parametrize("name", ["", ".", "a..b", "x" * 64])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(MoorageError, match=r"not a DNS name|not the name of a host"):
        parse_name(name)


def test_the_clusters_own_names_are_refused() -> None:
    with pytest.raises(MoorageError, match="the clusters' own"):
        Zone().with_records("backend.frontend.svc.cluster.local", ["203.0.113.1"])


@pytest.mark.parametrize(("payload", "fits"), [(None, False), (1232, True)])
def test_an_answer_that_does_not_fit_a_datagram_says_so(payload: int | None, fits: bool) -> None:
    zone = Zone().with_records("db.example.com", [f"203.0.113.{number}" for number in range(60)])
    query = dns.message.make_query("db.example.com", "A", use_edns=payload is not None, payload=payload)
    wire = zone.answer_datagram(query.to_wire())
    answer = dns.message.from_wire(wire)
    assert len(wire) <= (payload or 512)
    assert bool(answer.flags & dns.flags.TC) is not fits
    assert bool(answer.answer) is fits
