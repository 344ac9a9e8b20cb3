"""What a client of a server that somebody else chose offers it."""

import gc
import ssl
import weakref

import pytest
import trustme
from msgspec.structs import replace

from moorage.cluster.kubeconfig import Config
from moorage.cluster.tls import client_context, ssl_context
from moorage.errors import MoorageError


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


def test_an_authority_that_did_not_sign_itself_is_trusted(authority: trustme.CA) -> None:
    intermediate = authority.create_child_ca()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    intermediate.issue_cert("127.0.0.1").configure_cert(server)
    assert shake_hands(client_context(intermediate.cert_pem.bytes().decode()), server) == "TLSv1.3"


def test_comments_in_any_language_may_stand_among_authorities(authority: trustme.CA, server: ssl.SSLContext) -> None:
    bundle = f"# Prüfstelle\n{authority.cert_pem.bytes().decode()}# 認証局\n"
    assert shake_hands(client_context(bundle), server) == "TLSv1.3"


def test_no_server_can_have_the_handshake_repeated(authority: trustme.CA) -> None:
    for ca in (authority.cert_pem.bytes().decode(), None):
        assert client_context(ca).options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("ca", ["", "# nothing\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_text_without_certificates_never_means_the_machines_authorities(ca: str) -> None:
    with pytest.raises(MoorageError, match=r"^holds no certificates; put PEM text there"):
        client_context(ca)


def test_a_key_among_the_certificates_is_not_the_clients(authority: trustme.CA) -> None:
    me, other = authority.issue_cert("me@example.com"), authority.issue_cert("other@example.com")
    own, foreign = me.private_key_pem.bytes().decode(), other.private_key_pem.bytes().decode()
    certificate = foreign + me.cert_chain_pems[0].bytes().decode()
    assert ssl_context(Config(server="https://192.0.2.1", client_certificate=certificate, client_key=own))


def test_what_trusts_and_presents_the_same_is_shared_while_somebody_has_it(authority: trustme.CA) -> None:
    ca = authority.cert_pem.bytes().decode()
    me = authority.issue_cert("me@example.com")
    certificate, key = me.cert_chain_pems[0].bytes().decode(), me.private_key_pem.bytes().decode()
    first = Config(server="https://192.0.2.1", ca=ca, token="one")
    shared = ssl_context(first)
    assert shared is not None
    assert ssl_context(Config(server="https://192.0.2.2", ca=ca, token="two", tls_server_name="kube")) is shared
    others = [
        ssl_context(replace(first, ca=trustme.CA().cert_pem.bytes().decode())),
        ssl_context(replace(first, client_certificate=certificate, client_key=key)),
        ssl_context(replace(first, insecure_skip_tls_verify=True)),
    ]
    assert len({shared, *others}) == 4
    gone = weakref.ref(shared)
    del shared, others
    gc.collect()
    assert gone() is None
