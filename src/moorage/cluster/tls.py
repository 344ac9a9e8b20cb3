"""TLS as a Config asks for it."""

import os
import ssl

from moorage.cluster.kubeconfig import Config
from moorage.errors import MoorageError


def ssl_context(config: Config) -> ssl.SSLContext | None:
    """The TLS settings for `config.server`, None where it is plain http.

    Raises MoorageError for certificates or keys that OpenSSL does not take.
    """
    if not config.server.startswith("https://"):
        return None
    try:
        context = ssl.create_default_context(cadata=config.ca)
    except (ssl.SSLError, ValueError) as error:
        raise MoorageError(f"{config.server}: certificate-authority: not a certificate: {_words(error)}") from None
    # Python 3.13 began to insist on extensions that many clusters' own authorities lack (RFC 5280 lets a
    # self-signed one leave them out), so that no such cluster could be reached.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if config.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.client_certificate and config.client_key:
        try:
            _load_cert_chain(context, config.client_certificate, config.client_key)
        except (ssl.SSLError, ValueError) as error:
            raise MoorageError(f"{config.server}: client-certificate or client-key: {_words(error)}") from None
    return context


def _load_cert_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # The ssl module takes files only; one in memory leaves no key on a disk and needs no writable directory.
    memory = os.memfd_create("client-certificate")
    try:
        os.write(memory, f"{certificate}\n{key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}", password=_no_password)
    finally:
        os.close(memory)


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")


def _words(error: ssl.SSLError | ValueError) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
