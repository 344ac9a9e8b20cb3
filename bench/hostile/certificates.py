"""Keys and certificates of the neighbours: honest ones, and chains that are as dear to verify as can be.

A signature by RSA is verified by raising to the public exponent. With 65537 that takes 17 multiplications; OpenSSL
takes exponents as long as the modulus where that has up to 3072 bits (OPENSSL_RSA_SMALL_MODULUS_BITS), which takes
3,000 of them, about 7 ms. And it follows chains of up to 100 certificates. The root is one that nobody objects to.
"""

from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, cast

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from bench.hostile.objects import SERVER
from bench.namespaces import output

CHAINS = (60, 9)
"""Certificates between root and leaf: about as many as OpenSSL takes (100 KiB), and as fit into 16 KiB."""
_KEY_BITS = 3072
_EXPONENT = (1 << 3069) | 12345678901
_SINCE, _UNTIL = datetime(2020, 1, 1), datetime(2049, 1, 1)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Server(NamedTuple):
    """What a TLS server needs, in files, and what its clients trust."""

    chain: Path
    """Its certificate and those that lead to the root, PEM."""
    key: Path
    ca: str
    """PEM."""


def honest(directory: Path) -> Server:
    """Of a server like most."""
    ca = trustme.CA()
    leaf = ca.issue_cert(SERVER)
    chain, key = directory / "honest.pem", directory / "honest.key"
    chain.write_bytes(b"".join(each.bytes() for each in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return Server(chain, key, ca.cert_pem.bytes().decode())


def dear(directory: Path) -> list[Server]:
    """Of servers whose chains take their clients 7 ms a certificate: of each length of `CHAINS`, one root for all."""
    path = directory / "dear-ca.key"
    options = [f"rsa_keygen_bits:{_KEY_BITS}", f"rsa_keygen_pubexp:{_EXPONENT}"]
    output(["openssl", "genpkey", "-algorithm", "RSA", *(f"-pkeyopt={each}" for each in options), "-out", str(path)])
    signer = serialization.load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    by = cast("rsa.RSAPrivateKey", signer)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = _pem(_certificate("0", "0", root_key, root_key, ca=True)).decode()
    between = [_certificate("1", "0", by, root_key, ca=True)]
    between += [_certificate(str(n), str(n - 1), by, by, ca=True) for n in range(2, max(CHAINS) + 1)]
    key = directory / "dear.key"
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(leaf_key.private_bytes(*pem))
    servers = []
    for length in CHAINS:
        leaf = _certificate("leaf", str(length), leaf_key, by, ca=False)
        chain = directory / f"dear-{length}.pem"
        chain.write_bytes(b"".join(map(_pem, [leaf, *reversed(between[:length])])))
        servers.append(Server(chain, key, root))
    return servers


class Bundles:
    """CA bundles of so many certificates, of which each has one that no other has."""

    def __init__(self, count: int) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._made = 0
        self._rest = b"".join(self._new() for _ in range(count - 1))

    def another(self) -> bytes:
        return self._new() + self._rest

    def _new(self) -> bytes:
        self._made += 1
        name = f"{self._made:06}"
        return _pem(_certificate(name, name, self._key, self._key, ca=True))


def _certificate(subject: str, issuer: str, key: PrivateKey, by: PrivateKey, *, ca: bool) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_SINCE)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(SERVER))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(by, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
