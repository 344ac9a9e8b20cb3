"""TLS settings of clients."""

import os
import ssl
from weakref import WeakValueDictionary

from msgspec.structs import replace

from moorage.cluster.certificates import certificates, check_certificates, check_key, pem
from moorage.cluster.kubeconfig import Config
from moorage.errors import MoorageError

_CIPHERS = "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
"""Python's own choice, without finite-field Diffie-Hellman."""


_shared: WeakValueDictionary[tuple[str | bool | None, ...], ssl.SSLContext] = WeakValueDictionary()
"""By what they are made of, for as long as somebody has them."""


def client_context(ca: str | None) -> ssl.SSLContext:
    """TLS of a client that trusts the certificates in `ca` (PEM text), or None: the machine's authorities.

    Keys are agreed upon by ECDHE with P-256 only, which every server of TLS 1.3 has (RFC 8446, 9.1). The server
    chooses among what it is offered, and the event loop stands still meanwhile: with the largest groups of
    finite-field Diffie-Hellman for 0.15 s (ffdhe8192) and for over a second (10,000 bits). Handshakes are not
    repeated on a connection (renegotiation of TLS 1.2), for the same reason. Raises MoorageError for what is no
    certificate.
    """
    # As bytes: of text the ssl module wants ASCII, and bundles of authorities have comments in UTF-8.
    trusted = None if ca is None else b"".join(certificates(ca))
    try:
        context = ssl.create_default_context(cadata=trusted)
    except (ssl.SSLError, ValueError) as error:
        raise MoorageError(f"not a certificate: {_words(error)}") from None
    context.set_ciphers(_CIPHERS)
    context.set_ecdh_curve("prime256v1")
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Python 3.13 began to insist on extensions that many authorities lack (RFC 5280 lets a self-signed one leave
    # them out), so that no cluster of such an authority could be reached.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # As Python 3.13 has it, and Go: what is given is trusted whether or not it signed itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def inspected(config: Config) -> Config:
    """`config` with nothing in its PEM text but the certificates and the key.

    Raises MoorageError for keys that cost too much (`cluster.certificates`): for a Config that others wrote, and
    before anything else looks at them.
    """
    try:
        at = "certificate-authority"
        ca = None if config.ca is None else inspected_certificates(config.ca)
        at = "client-certificate"
        certificate = None if config.client_certificate is None else inspected_certificates(config.client_certificate)
        at = "client-key"
        key = None if config.client_key is None else check_key(config.client_key)
    except MoorageError as error:
        raise MoorageError(f"{config.server}: {at}: {error}") from None
    return replace(config, ca=ca, client_certificate=certificate, client_key=key)


def inspected_certificates(text: str) -> str:
    """The certificates in PEM text that others wrote, and nothing else. Raises MoorageError as `inspected` does."""
    found = certificates(text)
    check_certificates(found)
    return pem(found)


def ssl_context(config: Config) -> ssl.SSLContext | None:
    """The TLS settings for `config.server`, None where it is plain http.

    One is shared by all who have it and trust and present the same: with the machine's authorities it takes 0.8 MiB,
    and some hundredths of a second. Raises MoorageError for certificates or keys that OpenSSL does not take.
    """
    if config.server.startswith("http://"):
        return None
    made_of = config.ca, config.insecure_skip_tls_verify, config.client_certificate, config.client_key
    context = _shared.get(made_of)
    if context is None:
        context = _shared[made_of] = _made(config)
    return context


def _made(config: Config) -> ssl.SSLContext:
    try:
        context = client_context(config.ca)
    except MoorageError as error:
        raise MoorageError(f"{config.server}: certificate-authority: {error}") from None
    if config.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.client_certificate and config.client_key:
        try:
            _load_cert_chain(context, config.client_certificate, config.client_key)
        except MoorageError as error:
            raise MoorageError(f"{config.server}: client-certificate: {error}") from None
        except (ssl.SSLError, ValueError) as error:
            raise MoorageError(f"{config.server}: client-certificate or client-key: {_words(error)}") from None
    return context


def _load_cert_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # The ssl module takes files only; one in memory leaves no key on a disk and needs no writable directory. OpenSSL
    # takes the first key in it, which must not be one that stands among the certificates.
    memory = os.memfd_create("client-certificate")
    try:
        os.write(memory, f"{pem(certificates(certificate))}{key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}", password=_no_password)
    finally:
        os.close(memory)


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")


def _words(error: ssl.SSLError | ValueError) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
