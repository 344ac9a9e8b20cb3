"""What is taken from PEM text, and which keys are refused before anybody calculates with them."""

import base64
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from moorage.cluster.certificates import certificates, check_certificates, check_key, pem
from moorage.errors import MoorageError
from tests.support.certificates import SIGNER, certificate, rsa_key

RSA = rsa.generate_private_key(65537, 2048)
GOOD = certificate(SIGNER.public_key())


def text(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return str(key.private_bytes(Encoding.PEM, form, NoEncryption()).decode())


@pytest.mark.parametrize(
    "between", ["", "# Prüfstelle\n", "Bag Attributes\r\n    x: 1\r\n", "\udcff\x00\n", "-----\n"]
)
def test_what_stands_between_certificates_is_not_looked_at(between: str) -> None:
    one = pem([GOOD])
    assert certificates(between + one + between + one + between) == [GOOD, GOOD]
    assert certificates(one.replace("\n", "\r\n")) == [GOOD]
    assert certificates(one.replace("CERTIFICATE", "X509 CERTIFICATE")) == [GOOD]


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ("", "holds no certificates; put PEM text there"),
        (text(SIGNER), "holds no certificates; put PEM text there"),
        (pem([GOOD]) + pem([GOOD])[:-30], "not a certificate: number 2 has no -----END CERTIFICATE-----; copy it"),
        (pem([GOOD]).replace("M", "!"), "not a certificate: number 1 is not base64; copy it again"),
    ],
)
def test_text_without_a_whole_certificate_is_refused(given_: str, why: str) -> None:
    with pytest.raises(MoorageError) as caught:
        certificates(given_)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize(
    "key",
    [
        SIGNER.public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        rsa_key(2048),
        rsa_key(8192, 3),
    ],
)
def test_usual_keys_are_taken(key: Any) -> None:
    check_certificates([certificate(key)])


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (rsa_key(8193), "RSA key of 8193 bits; use one of at most 8192"),
        (rsa_key(3072, 2**3000 + 1), "RSA key with a public exponent of 3001 bits; use 65537"),
        (rsa_key(2048, 2**32 + 1), "RSA key with a public exponent of 33 bits; use 65537"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "a key of an unusual kind or curve; use RSA, ECDSA "),
        (dsa.generate_private_key(1024).public_key(), "a key of an unusual kind or curve; use RSA, ECDSA "),
    ],
)
def test_a_key_that_is_a_burden_is_refused(key: Any, why: str) -> None:
    with pytest.raises(MoorageError) as caught:
        check_certificates([GOOD, certificate(key)])
    assert str(caught.value).startswith(f"certificate 2: {why}")


def test_more_certificates_than_anybody_needs_are_refused() -> None:
    check_certificates([GOOD] * 100)
    with pytest.raises(MoorageError, match=r"^101 certificates, more than 100; leave out those not needed$"):
        check_certificates([GOOD] * 101)


@pytest.mark.parametrize("hidden", [GOOD + certificate(rsa_key(8193)), GOOD[:-1], b"", b"\x30\x80\0\0", b"\x30"])
def test_what_is_not_exactly_one_certificate_is_refused(hidden: bytes) -> None:
    with pytest.raises(MoorageError, match=r"^certificate 1: not valid X\.509; copy it again$"):
        check_certificates([hidden])


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=4))
def test_whatever_bytes_there_are_an_error_is_one_for_a_person(at: int, changed: bytes) -> None:
    try:
        check_certificates([GOOD[:at] + changed + GOOD[at + len(changed) :]])
    except MoorageError as error:
        assert str(error).isprintable()  # noqa: PT017


def integers(*numbers: int) -> bytes:
    """A SEQUENCE of INTEGERs, as DER."""

    def value(tag: int, content: bytes) -> bytes:
        return bytes([tag, 0x82]) + len(content).to_bytes(2) + content

    return value(0x30, b"".join(value(2, number.to_bytes(number.bit_length() // 8 + 1)) for number in numbers))


def pkcs1(*numbers: int) -> str:
    encoded = base64.encodebytes(integers(0, *numbers)).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{encoded}-----END RSA PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "key",
    [
        text(SIGNER),
        text(SIGNER, PrivateFormat.TraditionalOpenSSL),
        text(RSA),
        text(RSA, PrivateFormat.TraditionalOpenSSL),
        text(ed25519.Ed25519PrivateKey.generate()),
        trustme.CA().issue_cert("me@example.com").private_key_pem.bytes().decode(),
        pkcs1(2**4095 + 1, 65537, 2**4095, 2**2047, 2**2047, 5, 7, 9),
    ],
)
def test_a_usual_private_key_is_taken_without_what_is_around_it(key: str) -> None:
    assert check_key(f"# Schlüssel\n{pem([GOOD])}{key}# end\n") == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "holds no unencrypted private key; put one in"),
        (text(SIGNER) * 2, "holds several private keys; keep one"),
        (text(dsa.generate_private_key(1024)), "a key of an unusual kind or curve; use RSA"),
        (
            text(dsa.generate_private_key(1024), PrivateFormat.TraditionalOpenSSL),
            "DSA keys are not supported; use RSA",
        ),
        (pkcs1(2**4096 + 1, 65537, 3, 5, 7, 9, 11, 13), "RSA key of 4097 bits; use one of at most 4096"),
        (pkcs1(2**2047, 65537, 2**2047, 2**8000, 5, 7, 9, 11), "RSA key of more than 4096 bits; use ECDSA"),
        (pkcs1(2**2047, 65537, 2**8000, 3, 5, 7, 9, 11), "RSA key of more than 4096 bits; use ECDSA"),
        (pkcs1(2**2047, 65537, 2**4096, 3, 5, 7, 9, 11), "RSA key of more than 4096 bits; use ECDSA"),
        (pkcs1(2**2047, 65537, 3, 2**2048, 5, 7, 9, 11), "RSA key of more than 4096 bits; use ECDSA"),
        (pkcs1(2**2047, 2**2047), "not a private key; copy it again"),
        (text(SIGNER).replace("M", "!"), "not a private key; copy it again"),
        ("-----BEGIN EC PRIVATE KEY-----\nAAA=\n-----END EC PRIVATE KEY-----\n", "not a private key; copy it again"),
    ],
)
def test_a_private_key_that_is_a_burden_is_refused(key: str, why: str) -> None:
    with pytest.raises(MoorageError) as caught:
        check_key(key)
    assert str(caught.value).startswith(why)
