"""Certificates and keys in PEM text (RFC 7468). Refuses those that take too long to use.

Whoever sends a kubeconfig or a bundle of authorities chooses the keys that this process calculates with. A few lines
of our own read what matters: the cryptography package would take 14 MiB in each process.
"""

import base64
import re
import ssl
from collections.abc import Iterable, Sequence

from moorage.errors import MoorageError

MAX_CERTIFICATES = 100
MAX_MODULUS_BITS = 8192
"""Of an RSA key; no authority has a longer one."""
MAX_EXPONENT_BITS = 32
"""Of an RSA key's public exponent, which is 65537 nearly everywhere. With a longer one, verifying a signature takes
longer: 8 ms for RSA with 3072 bits and an exponent of the same length."""
MAX_FACTOR_BITS = 2048
"""Of a prime factor of a client's RSA key: half of 4096."""

_CERTIFICATE = re.compile(
    r"^[ \t]*-----BEGIN (?:X509 )?CERTIFICATE-----([^-]*)(-----END (?:X509 )?CERTIFICATE-----)?", re.MULTILINE
)
_KEY = re.compile(r"^[ \t]*-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----([^-]*)-----END \1-----", re.MULTILINE)

_INTEGER, _BITS, _OCTETS, _OID, _SEQUENCE, _VERSION = 0x02, 0x03, 0x04, 0x06, 0x30, 0xA0
_RSA = {bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d01010a")}
"""rsaEncryption and id-RSASSA-PSS (RFC 8017)."""
_EC = bytes.fromhex("2a8648ce3d0201")
_CURVES = {bytes.fromhex(each) for each in ("2a8648ce3d030107", "2b81040022", "2b81040023")}
"""P-256, P-384 and P-521 (RFC 5480)."""
_EDWARDS = {bytes.fromhex("2b6570"), bytes.fromhex("2b6571")}
"""Ed25519 and Ed448 (RFC 8410)."""
_USUAL = "use RSA, ECDSA with P-256, P-384 or P-521, or Ed25519"


def certificates(text: str) -> list[bytes]:
    """The certificates in PEM text, as DER. Text between them is skipped.

    Raises MoorageError if there are none, and for one that is cut off or not base64.
    """
    found = []
    for number, (body, end) in enumerate(_CERTIFICATE.findall(text), start=1):
        if not end:
            raise MoorageError(f"not a certificate: number {number} has no -----END CERTIFICATE-----; copy it again")
        try:
            found.append(base64.b64decode("".join(body.split()), validate=True))
        except ValueError:
            raise MoorageError(f"not a certificate: number {number} is not base64; copy it again") from None
    if not found:
        raise MoorageError("holds no certificates; put PEM text there (-----BEGIN CERTIFICATE-----)")
    return found


def pem(found: Iterable[bytes]) -> str:
    """PEM text with these certificates and nothing else."""
    return "".join(ssl.DER_cert_to_PEM_cert(each) for each in found)


def check_certificates(found: Sequence[bytes]) -> None:
    """Raises MoorageError for more certificates than anybody needs, and for keys that take too long to use."""
    if len(found) > MAX_CERTIFICATES:
        raise MoorageError(f"{len(found)} certificates, more than {MAX_CERTIFICATES}; leave out those not needed")
    for number, certificate in enumerate(found, start=1):
        try:
            why = _public_key(certificate)
        except (ValueError, IndexError):
            why = "not valid X.509; copy it again"
        if why:
            raise MoorageError(f"certificate {number}: {why}")


def check_key(text: str) -> str:
    """The private key in PEM text, without other text.

    Raises MoorageError if there are several keys or none, and for a key that takes long to sign with, or even to read
    (for DSA and DH keys OpenSSL calculates the public half).
    """
    keys = list(_KEY.finditer(text))
    if len(keys) != 1:
        what = "several private keys; keep one" if keys else "no unencrypted private key; put one in"
        raise MoorageError(f"holds {what}")
    label, body = keys[0].groups()
    try:
        why = _private_key(label, base64.b64decode("".join(body.split()), validate=True))
    except (ValueError, IndexError):
        why = "not a private key; copy it again"
    if why:
        raise MoorageError(why)
    return keys[0][0].strip() + "\n"


def _public_key(certificate: bytes) -> str | None:
    """What is wrong with the key in a certificate's SubjectPublicKeyInfo (RFC 5280, section 4.1); None if nothing
    is."""
    to_be_signed = _values(_content(_values(_only(certificate, _SEQUENCE))[0], _SEQUENCE))
    if to_be_signed[0][0] == _VERSION:
        to_be_signed = to_be_signed[1:]
    _serial, _algorithm, _issuer, _validity, _subject, info, *_more = to_be_signed
    algorithm, bits = _values(_content(info, _SEQUENCE))
    rsa, why = _kind(_content(algorithm, _SEQUENCE))
    if not rsa:
        return why
    modulus, exponent = _values(_only(_content(bits, _BITS)[1:], _SEQUENCE))
    return _rsa(_bit_length(modulus), _bit_length(exponent), MAX_MODULUS_BITS)


def _private_key(label: str, key: bytes) -> str | None:
    """What is wrong with a key in PKCS #8 (RFC 5958), PKCS #1 (RFC 8017) or SEC 1 (RFC 5915)."""
    values = _values(_only(key, _SEQUENCE))
    if label == "EC PRIVATE KEY":
        return None  # The certificate determines the curve.
    if label == "PRIVATE KEY":
        rsa, why = _kind(_content(values[1], _SEQUENCE))
        if not rsa:
            return why
        values = _values(_only(_content(values[2], _OCTETS), _SEQUENCE))
    elif label != "RSA PRIVATE KEY":
        return f"{label.removesuffix(' PRIVATE KEY')} keys are not supported; {_USUAL}"
    _version, modulus, exponent, private, *factors = map(_bit_length, values)
    if max(factors) > MAX_FACTOR_BITS or private > 2 * MAX_FACTOR_BITS:
        return f"RSA key of more than {2 * MAX_FACTOR_BITS} bits; use ECDSA, or RSA of fewer bits"
    return _rsa(modulus, exponent, 2 * MAX_FACTOR_BITS)


def _kind(algorithm: bytes) -> tuple[bool, str | None]:
    """Whether an AlgorithmIdentifier is for RSA, and what is wrong with it."""
    name, *parameters = _values(algorithm)
    oid = _content(name, _OID)
    if oid in _RSA:
        return True, None
    if oid in _EDWARDS or (oid == _EC and _content(parameters[0], _OID) in _CURVES):
        return False, None
    return False, f"a key of an unusual kind or curve; {_USUAL}"


def _rsa(modulus: int, exponent: int, longest: int) -> str | None:
    if modulus > longest:
        return f"RSA key of {modulus} bits; use one of at most {longest}"
    if exponent > MAX_EXPONENT_BITS:
        return f"RSA key with a public exponent of {exponent} bits; use 65537"
    return None


# --- DER (X.690) -------------------------------------------------------------------------------------------------

_Value = tuple[int, bytes]
"""Tag and content of a value. Raises ValueError or IndexError for malformed data."""


def _values(data: bytes) -> list[_Value]:
    found, at = [], 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            if not size:
                raise ValueError("BER, whose values may have no length")
            length, at = int.from_bytes(data[at : at + size]), at + size
        if at + length > len(data):
            raise ValueError("cut off")
        found.append((tag, data[at : at + length]))
        at += length
    return found


def _only(data: bytes, tag: int) -> bytes:
    """The content of the only value in `data`."""
    (value,) = _values(data)
    return _content(value, tag)


def _content(value: _Value, tag: int) -> bytes:
    if value[0] != tag:
        raise ValueError(f"tag {value[0]}, expected {tag}")
    return value[1]


def _bit_length(value: _Value) -> int:
    return int.from_bytes(_content(value, _INTEGER)).bit_length()
