import gc
import ssl
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
import trustme

from moorage.cluster.tls import client_context
from moorage.errors import MoorageError
from moorage.probe import trust
from moorage.probe.check import Tls
from moorage.probe.trust import MAX_PEM_CHARACTERS, TrustStore


def pem() -> str:
    return trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.bytes().decode()


def test_it_is_made_once_for_all_who_have_it() -> None:
    trusted, ca = TrustStore(), pem()
    one = trusted.of("frontend", Tls("db.example.com", ca))
    assert trusted.of("frontend", Tls("other.example.com", ca)) is one
    assert trusted.of("frontend", Tls(None, ca, verify=False)) is not one
    assert trusted.of("backend", Tls(None, ca)) is not one
    assert trusted.of("frontend", Tls()) is trusted.of("backend", Tls())


def test_what_nobody_has_any_more_is_gone() -> None:
    trusted = TrustStore()
    kept = [weakref.ref(trusted.of("frontend", Tls(ca=pem())).context()) for _ in range(10)]
    gc.collect()
    assert [each() for each in kept] == [None] * 10


def test_it_verifies_unless_asked_not_to() -> None:
    trusted, ca = TrustStore(), pem()
    context = trusted.of("frontend", Tls(ca=ca)).context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    context = trusted.of("frontend", Tls(ca=ca, verify=False)).context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_a_text_without_certificates_is_told_and_read_once() -> None:
    trusted = TrustStore()
    with patch.object(trust, "client_context", wraps=client_context) as read:
        kept = [trusted.of("frontend", Tls(ca="certainly not")) for _ in range(3)]
        for each in kept:
            with pytest.raises(
                MoorageError, match=r"^spec\.healthCheck\.http\.tls\.caSecretRef: holds no certificates"
            ):
                each.context()
    assert read.call_count == 1


def test_all_who_want_it_at_once_have_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(ca: str | None) -> ssl.SSLContext:
        both.wait(0.2)
        return client_context(ca)

    both = threading.Event()
    monkeypatch.setattr(trust, "client_context", slow)
    kept = TrustStore().of("frontend", Tls(ca=pem()))
    assert not kept.made
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: kept.context(), range(2))
    assert first is second
    assert kept.made


def test_a_namespace_may_have_so_much_and_others_as_much_again() -> None:
    trusted = TrustStore()
    texts = [f"# {number}\n{pem()}".ljust(MAX_PEM_CHARACTERS // 4) for number in range(5)]
    kept = [trusted.of("greedy", Tls(ca=text)) for text in texts[:4]]
    kept.append(trusted.of("greedy", Tls(ca=texts[0], verify=False)))
    with pytest.raises(
        MoorageError, match=r"caSecretRef: .* more than 256 KiB of certificates in all; leave out some"
    ):
        trusted.of("greedy", Tls(ca=texts[4]))
    kept.append(trusted.of("modest", Tls(ca=texts[4])))
    del kept[1]
    assert trusted.of("greedy", Tls(ca=texts[4])).context()
