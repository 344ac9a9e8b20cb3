"""Certificates of keys that no tool would make."""

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

SIGNER = ec.generate_private_key(ec.SECP256R1())


def certificate(key: Any) -> bytes:
    """A certificate of this public key, as DER."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    builder = x509.CertificateBuilder(
        name, name, key, 1, datetime.datetime(2020, 1, 1), datetime.datetime(2040, 1, 1)
    )
    return builder.sign(SIGNER, hashes.SHA256()).public_bytes(Encoding.DER)


def rsa_key(bits: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    """A public key of so many bits, to which nobody has the private one."""
    return rsa.RSAPublicNumbers(exponent, (1 << (bits - 1)) + 1).public_key()
