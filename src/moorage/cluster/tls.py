"""TLS settings of clients."""

import os
import ssl
from weakref import WeakValueDictionary

from msgspec.structs import replace

from moorage.cluster.certificates import certificates, check_certificates, check_key, pem
from moorage.cluster.kubeconfig import Config
from moorage.errors import MoorageError

_CIPHERS = "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
"""Python's defaults, without finite-field Diffie-Hellman."""


_shared: WeakValueDictionary[tuple[str | bool | None, ...], ssl.SSLContext] = WeakValueDictionary()
"""By what they are made from; kept as long as somebody uses them."""


def client_context(ca: str | None) -> ssl.SSLContext:
    """TLS settings of a client that trusts the certificates in `ca` (PEM text; None: the machine's authorities).

    Key exchange is ECDHE with P-256 only, which every TLS 1.3 server has (RFC 8446, 9.1). The server chooses among
    the groups that are offered, and the event loop stands still meanwhile: 0.15 s for finite-field Diffie-Hellman
    with ffdhe8192, over a second with 10,000 bits. For the same reason, handshakes are not repeated on a connection
    (renegotiation of TLS 1.2). Raises MoorageError for anything but certificates.
    """
    # As bytes: the ssl module only accepts ASCII text, but bundles of authorities have comments in UTF-8.
    trusted = None if ca is None else b"".join(certificates(ca))
    try:
        context = ssl.create_default_context(cadata=trusted)
    except (ssl.SSLError, ValueError) as error:
        raise MoorageError(f"not a certificate: {_words(error)}") from None
    context.set_ciphers(_CIPHERS)
    context.set_ecdh_curve("prime256v1")
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Python 3.13 began to require extensions that many authorities lack (RFC 5280 lets self-signed ones leave them
    # out), so clusters with such authorities could not be reached.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # As in Python 3.13 and Go: a given certificate is trusted whether or not it is self-signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def inspected(config: Config) -> Config:
    """`config` with only the certificates and the key in its PEM text.

    For a Config that others wrote: raises MoorageError for keys that cost too much (`cluster.certificates`), before
    anything else uses them.
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
    """Only the certificates in PEM text that others wrote. Raises MoorageError as `inspected` does."""
    found = certificates(text)
    check_certificates(found)
    return pem(found)


def ssl_context(config: Config) -> ssl.SSLContext | None:
    """The TLS settings for `config.server`; None for plain http.

    Clients that trust and present the same certificates share them: with the machine's authorities they take 0.8 MiB
    and some hundredths of a second to make. Raises MoorageError for certificates or keys that OpenSSL does not
    accept.
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
    # The ssl module only takes files; one in memory leaves no key on a disk and needs no writable directory. OpenSSL
    # uses the first key in it, which must not be one among the certificates.
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
