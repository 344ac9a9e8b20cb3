from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from moorage.api.addresses import as_kubernetes_reads, canonical, embedded, family, parse, read, special
from moorage.errors import MoorageError


@given(st.ip_addresses())
def test_an_address_has_one_spelling(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return
    assert canonical(str(address)) == str(address)
    assert canonical(address.exploded.upper()) == str(address)
    assert parse(str(address)) == address
    assert family(str(address)) == f"IPv{address.version}"


@given(st.text(max_size=50))
def test_text_is_an_address_or_an_error_for_a_person(text: str) -> None:
    try:
        assert canonical(canonical(text)) == canonical(text)
    except MoorageError as error:
        assert str(error).isprintable()  # noqa: PT017
        assert special(text), "what is no address is no endpoint"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("010.0.0.1", "010.0.0.1 has leading zeros, octal to some programs; write 10.0.0.1 if that is meant"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1 is an IPv4-mapped address; write 10.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0 has a zone, which means nothing on other machines; leave it out"),
        ("256.0.0.1", "256.0.0.1 is not an IP address; write one such as 203.0.113.11 or 2001:db8::11"),
        ("300.0.0.01", "300.0.0.01 is not an IP address; write one such as 203.0.113.11 or 2001:db8::11"),
        ("10.0.0.1/32", "10.0.0.1/32 is not an IP address; write one such as 203.0.113.11 or 2001:db8::11"),
        ("١٠.0.0.1", '"\\u0661\\u0660.0.0.1" is not an IP address; write one such as 203.0.113.11 or 2001:db8::11'),
    ],
)
def test_what_is_not_an_address_is_explained(address: str, why: str) -> None:
    with pytest.raises(MoorageError) as caught:
        canonical(address)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.051.100.007", "198.51.100.7"),
        ("010.000.0.0000000000000000000008", "10.0.0.8"),
        ("2001:DB8:0:0::0a", "2001:db8::a"),
        ("2001:000000db8::00001", "2001:db8::1"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:198.051.100.007", "198.51.100.7"),
        ("0:0:0:0:0:FFFF:c633:6407", "198.51.100.7"),
        ("::198.051.100.007", "::c633:6407"),
        ("0::0", "::"),
        ("198.51.100.256", None),
        ("198.51.100", None),
        ("198.51.100.7/32", None),
        (" 198.51.100.7", None),
        ("0x10.0.0.1", None),
        ("١٠.0.0.1", None),
        ("fe80::1%eth0", None),
        ("fe80::1%", None),
        ("2001:db8::10000", None),
        ("1:2:3:4:5:6:7::8:9", None),
        ("0" * 10_000, None),
        ("None", None),
        ("", None),
    ],
)
def test_an_address_is_read_as_kubernetes_reads_it(written: str, read: str | None) -> None:
    assert as_kubernetes_reads(written) == read


@given(st.ip_addresses(), st.integers(0, 5))
def test_leading_zeros_change_no_address_of_kubernetes(address: IPv4Address | IPv6Address, zeros: int) -> None:
    separator = "." if isinstance(address, IPv4Address) else ":"
    written = separator.join("0" * zeros + part for part in address.exploded.split(separator))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    assert as_kubernetes_reads(written) == str(mapped or address)


@given(st.text(max_size=50))
def test_what_kubernetes_reads_has_one_spelling(text: str) -> None:
    read = as_kubernetes_reads(text)
    assert read is None or canonical(read) == read


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0", "the unspecified address"),
        ("0.1.2.3", 'an address of "this network" (RFC 1122)'),
        ("127.0.0.1", "a loopback address"),
        ("127.255.255.255", "a loopback address"),
        ("169.254.0.1", "a link-local address"),
        ("169.254.169.254", "a cloud metadata address"),
        ("168.63.129.16", "a cloud metadata address"),
        ("100.100.100.200", "a cloud metadata address"),
        ("224.0.0.1", "a multicast address"),
        ("239.255.255.255", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("::", "the unspecified address"),
        ("0:0:0:0:0:0:0:1", "a loopback address"),
        ("fe80::1", "a link-local address"),
        ("febf::1%eth0", "a link-local address"),
        ("ff02::1", "a multicast address"),
        ("fd00:ec2::254", "a cloud metadata address"),
        ("FD00:EC2::254%1", "a cloud metadata address"),
        ("fd00:ec2::23", "a cloud metadata address"),
        ("fd00:c1::a9fe:a9fe", "a cloud metadata address"),
        ("fd00:42::42", "a cloud metadata address"),
        ("fd00:a9fe:a9fe::1", "a cloud metadata address"),
        ("fd00:100::100:200", "a cloud metadata address"),
        ("192.0.0.192", "a cloud metadata address"),
        ("::ffff:127.0.0.1", "a loopback address in IPv4-mapped form"),
        ("::ffff:a9fe:a9fe", "a cloud metadata address in IPv4-mapped form"),
        ("64:ff9b::7f00:1", "a loopback address in NAT64 form"),
        ("64:ff9b:1::168.63.129.16", "a cloud metadata address in NAT64 form"),
        ("64:ff9b::224.0.0.1", "a multicast address in NAT64 form"),
        ("64:ff9b:1::7f:0:b00:0", "a loopback address in NAT64 form"),
        ("64:ff9b:1:7f00:0:100::", "a loopback address in NAT64 form"),
        ("64:ff9b:1:7f00:0:100:808:808", "a loopback address in NAT64 form"),
        ("64:ff9b:1:1a9:fe:a9fe::", "a cloud metadata address in NAT64 form"),
        ("64:ff9b:1:1a9:fe:a9fe:808:808", "a cloud metadata address in NAT64 form"),
        ("::ffff:0:127.0.0.1", "a loopback address in IPv4-translated form"),
        ("2002:7f00:1::", "a loopback address in 6to4 form"),
        ("::127.0.0.1", "a loopback address in IPv4-compatible form"),
        ("fec0::1", "a site-local address (RFC 3879)"),
        ("feff:ffff::1", "a site-local address (RFC 3879)"),
        ("2001:0:7f00:1::", "a loopback address in Teredo form"),
        ("2001:0:cb00:7101::80ff:fffe", "a loopback address in Teredo form"),
        ("2001:db8::5efe:7f00:1", "a loopback address in ISATAP form"),
        ("2001:db8::200:5efe:a9fe:a9fe", "a cloud metadata address in ISATAP form"),
        ("backend1", "not an IP address"),
    ],
)
def test_a_special_address_is_never_an_endpoint(address: str, why: str) -> None:
    assert special(address) == why


@pytest.mark.parametrize(
    "address",
    ["203.0.113.11", "10.0.0.1", "1.0.0.0", "126.255.255.255", "169.253.255.255", "169.255.0.0", "223.255.255.255",
     "168.63.129.17", "2001:db8::1", "fd00::1", "2001:db8::5efe", "64:ff9b::203.0.113.1",
     "64:ff9b:1::cb:71:b00:0", "64:ff9b:1:cb00:71:b00::", "64:ff9b:1:cb:0:710b::", "::ffff:0:203.0.113.1",
     "2002:cb00:7101::"],
)  # fmt: skip
def test_any_other_address_may_be_an_endpoint(address: str) -> None:
    assert special(address) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_stays_special_inside_ipv6(address: IPv4Address) -> None:
    for prefix in ("::ffff:", "::ffff:0:", "64:ff9b::", "64:ff9b:1::"):
        assert (special(f"{prefix}{address}") is None) == (special(str(address)) is None)


@given(st.ip_addresses(v=4), st.sampled_from([48, 56, 64]), st.integers(0, 2**24 - 1))
def test_every_layout_of_a_local_nat64_prefix_is_read(address: IPv4Address, length: int, suffix: int) -> None:
    """RFC 6052, 2.2: the prefix, the IPv4 address but for the ninth octet, and a suffix that is ignored."""
    assume(int(address) >> 24)
    without_ninth = 0x64FF9B0001 << 72 | int(address) << 88 - length | suffix
    number = (without_ninth >> 56) << 64 | without_ninth & (1 << 56) - 1
    assert address in [inner for _, inner in embedded(IPv6Address(number))]


@given(st.one_of(st.ip_addresses().map(str), st.text("0123456789.:af%/x ", max_size=20), st.text(max_size=8)))
@example("010.0.0.1")
@example("1.2.3")
@example("1.2.3.4\0")
@example("\u0661.2.3.4")
@example("::ffff:192.0.2.1")
def test_reading_fast_is_reading_the_same(text: str) -> None:
    def outcome(reader: Callable[[str], object]) -> object:
        try:
            return reader(text)
        except ValueError:
            return None

    assert outcome(read) == outcome(ip_address)
