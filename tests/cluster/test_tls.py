"""What a client of a server that somebody else chose offers it."""

import ssl

import pytest
import trustme

from moorage.cluster.tls import client_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """The version of TLS on which both agree; raises ssl.SSLError where they do not."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname="127.0.0.1")
    sides = [asking, server.wrap_bio(up, down, server_side=True)]
    while sides:
        try:
            sides[0].do_handshake()
            sides.pop(0)
        except ssl.SSLWantReadError:
            sides.reverse()
    return asking.version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_ordinary_server_is_agreed_with(
    authority: trustme.CA, server: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    server.maximum_version = version
    expected = version.name.replace("_", ".")
    assert shake_hands(client_context(authority.cert_pem.bytes().decode()), server) == expected


def test_no_server_can_choose_a_large_group_of_finite_field_diffie_hellman(
    authority: trustme.CA, server: ssl.SSLContext
) -> None:
    client = client_context(authority.cert_pem.bytes().decode())
    assert {cipher["kea"] for cipher in client.get_ciphers()} == {"kx-any", "kx-ecdhe"}  # kx-any: those of TLS 1.3
    server.set_ecdh_curve("ffdhe8192")
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server)
