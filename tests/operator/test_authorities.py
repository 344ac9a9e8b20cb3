"""Certificate authorities of health checks: from one Secret, which may be missing or hold something else."""

import base64
import itertools

import pytest

from moorage.api.core_v1 import Secret
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalServiceSpec
from moorage.api.sources_v1alpha1 import HealthCheck, HttpCheck, SecretKeyReference, TlsCheck
from moorage.cluster.certificates import pem
from moorage.cluster.client import Client
from moorage.discovery.secrets import MAX_VALUE_BYTES, SecretKey, WatchedSecret
from moorage.discovery.shared import Shared
from moorage.operator import authorities as module
from moorage.operator.authorities import CheckAuthority, certificates
from moorage_lab.apiserver import credentials
from testing.eventually import eventually
from tests.support.apiserver import api_server
from tests.support.certificates import certificate, rsa_key

REF = SecretKeyReference(name="ca", key="ca.crt")


def spec(tls: TlsCheck | None) -> ExternalServiceSpec:
    return ExternalServiceSpec(health_check=HealthCheck(http=HttpCheck(tls=tls)))


def secret(**data: bytes) -> Secret:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return Secret(metadata=ObjectMeta(name="ca", namespace="default"), data=encoded)


def test_more_than_checks_need_is_refused() -> None:
    pem = credentials.issue().ca
    assert certificates(secret(ca_crt=pem.encode() * 10), REF) == pem * 10
    assert certificates(secret(ca_crt=b"#" * (MAX_VALUE_BYTES + 1)), REF) == (
        "Secret default/ca, key ca.crt: more than 65536 bytes; leave out authorities that are not needed",
    )


def test_certificates_are_read() -> None:
    pem = credentials.issue().ca
    assert certificates(secret(ca_crt=pem.encode()), REF) == pem


@pytest.mark.parametrize("comment", ["# Prüfstelle 認証局\n".encode(), b"# Pr\xfcfstelle\n", b"Bag Attributes\r\n"])
def test_comments_among_certificates_are_not_looked_at(comment: bytes) -> None:
    ca = credentials.issue().ca
    assert certificates(secret(ca_crt=comment + ca.encode() + comment + ca.encode()), REF) == ca + ca


def test_openssl_is_not_asked_by_the_process_that_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl.SSLContext.load_verify_locations", lambda *_, **__: pytest.fail("was asked"))
    pem_text = credentials.issue().ca
    assert certificates(secret(ca_crt=pem_text.encode()), REF) == pem_text


def test_a_key_that_is_made_to_be_a_burden_is_named() -> None:
    bundle = credentials.issue().ca + pem([certificate(rsa_key(2048, 2**2000 + 1))])
    assert certificates(secret(ca_crt=bundle.encode()), REF) == (
        "Secret default/ca, key ca.crt: certificate 2: RSA key with a public exponent of 2001 bits; use 65537",
    )


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (secret(), "Secret default/ca: has no key ca.crt; its keys are: none"),
        (secret(tls_crt=b""), "Secret default/ca: has no key ca.crt; its keys are: tls.crt"),
        (
            secret(ca_crt=b"text"),
            "Secret default/ca, key ca.crt: holds no certificates; put PEM text there (-----BEGIN CERTIFICATE-----)",
        ),
        (
            secret(ca_crt=b"\xff"),
            "Secret default/ca, key ca.crt: holds no certificates; put PEM text there (-----BEGIN CERTIFICATE-----)",
        ),
    ],
)
def test_what_is_none_is_named(found: Secret, message: str) -> None:
    assert certificates(found, REF) == (message,)


async def test_a_secret_is_watched_for_as_long_as_a_check_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_server() as server, Client(server.config) as client:
        changed: list[bool] = []
        secrets: Shared[SecretKey, WatchedSecret] = Shared(
            lambda key, on_change: WatchedSecret(key, client, on_change, lambda: "2027-01-01T00:00:00Z", "ns:account")
        )
        authority = CheckAuthority(secrets, lambda: changed.append(True), lambda: "2027-01-01T00:00:00Z")
        wanted = spec(TlsCheck(ca_secret_ref=REF))

        async def is_missing() -> bool:
            problem = authority.of("default", wanted).problem
            return problem is not None and problem.reason == "SecretMissing"

        await eventually(is_missing)
        pem = credentials.issue().ca
        await client.create(secret(ca_crt=pem.encode()))

        async def is_there() -> bool:
            return authority.of("default", wanted).pem == pem

        await eventually(is_there)
        assert changed
        elsewhere = spec(TlsCheck(ca_secret_ref=SecretKeyReference(name="other", key="ca.crt")))
        assert authority.of("default", elsewhere).pem is None
        assert secrets.count == 1, "what is not named any more is not watched any more"
        await eventually(is_there)
        with monkeypatch.context() as patched:
            patched.setattr(module, "certificates", lambda secret, ref: pytest.fail("read again, and it is the same"))
            assert authority.of("default", wanted).pem == pem
        for other in (spec(None), spec(TlsCheck()), spec(TlsCheck(ca_secret_ref=REF, insecure_skip_verify=True))):
            await eventually(is_there)
            assert secrets.count == 1
            assert authority.of("default", other) == (None, None)
            assert secrets.count == 0


async def test_what_is_wrong_is_so_since_it_became_so_however_often_the_secret_is_written() -> None:
    minutes = itertools.count()
    async with api_server() as server, Client(server.config) as client:
        secrets: Shared[SecretKey, WatchedSecret] = Shared(
            lambda key, on_change: WatchedSecret(key, client, on_change, lambda: "2027-01-01T00:00:00Z", "ns:account")
        )
        authority = CheckAuthority(secrets, lambda: None, lambda: f"2027-01-01T00:{next(minutes):02}:00Z")
        wanted = spec(TlsCheck(ca_secret_ref=REF))
        seen: list[str] = []

        async def says(words: str) -> str:
            async def so() -> bool:
                problem = authority.of("default", wanted).problem
                seen[:] = [problem.since] if problem else []
                return problem is not None and words in problem.message

            await eventually(so)
            return seen[0]

        await client.create(secret(first=b""))
        first = await says("its keys are: first")
        again = {"metadata": {"annotations": {"example.com/written": "again"}}}
        written = await client.patch(Secret, "default", "ca", again)
        await eventually(lambda: has_read(secrets, written))
        assert await says("its keys are: first") == first
        await client.patch(Secret, "default", "ca", {"data": {"second": ""}})
        second = await says("its keys are: first, second")
        assert second > first
        assert authority.of("default", spec(None)) == (None, None)
        assert await says("its keys are: first, second") > second, "a check that did not need it has begun anew"
        authority.close()


async def has_read(secrets: Shared[SecretKey, WatchedSecret], written: Secret) -> bool:
    """Whether the watch has told of this version of the Secret."""

    def nobody() -> None: ...

    watched = secrets.take(SecretKey("default", "ca", "ca.crt"), nobody)
    try:
        return watched.secret is not None and watched.secret.metadata.resource_version == (
            written.metadata.resource_version
        )
    finally:
        secrets.give_back(SecretKey("default", "ca", "ca.crt"), nobody)
