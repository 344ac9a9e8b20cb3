"""Tenants' kubeconfigs: what is taken from them, what is refused, and what their servers are held to."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api import manifest_yaml
from moorage.api.core_v1 import Service
from moorage.cluster.certificates import pem
from moorage.cluster.client import UnreachableError
from moorage.cluster.kubeconfig import Config, load
from moorage.core.admission import Gate, gate_of
from moorage.discovery.tenant import MAX_VALUES, _Resolver, client_of, read_kubeconfig
from moorage.errors import MoorageError
from moorage_lab.apiserver import credentials
from tests.support.apiserver import api_server
from tests.support.certificates import certificate, rsa_key
from tests.support.fake_names import FakeNames
from tests.support.tenants import LOOPBACK_ALLOWED, encoded, kubeconfig, kubeconfig_of, secret

SERVER = "https://203.0.113.10:6443"
GATE = gate_of(refuse=["10.244.0.0/16"])
WHERE = "Secret frontend/cluster-a, key kubeconfig: "


@pytest.fixture(scope="module")
def issued() -> credentials.Certificates:
    return credentials.issue(["api.example.com"])


def read(text: str, gate: Gate = GATE) -> Config:
    found = read_kubeconfig(secret(text), "kubeconfig")
    if why := found.refusal(gate):
        raise MoorageError(why)
    return found.config


def refusal(text: str, gate: Gate = GATE) -> str:
    with pytest.raises(MoorageError) as caught:
        read(text, gate)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(WHERE)
    return message.removeprefix(WHERE)


def test_server_authority_and_credentials_are_taken(issued: credentials.Certificates) -> None:
    cluster = {"server": f"{SERVER}/", "certificate-authority-data": encoded(issued.ca), "tls-server-name": "kube"}
    assert read(kubeconfig(cluster, {"token": "t0k3n\n"})) == Config(
        server=SERVER, token="t0k3n", ca=issued.ca, tls_server_name="kube"
    )
    user = {
        "client-certificate-data": encoded(issued.certificate),
        "client-key-data": encoded(issued.key),
        "exec": None,
        "tokenFile": "",
    }
    taken = read(kubeconfig({"server": SERVER, "proxy-url": "", "disable-compression": True}, user))
    assert (taken.client_certificate, taken.client_key) == (issued.certificate, issued.key)


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ({"exec": {"command": "aws"}}, "users[reader].user.exec: programs that fetch credentials are never run; use "
         "a token or client-certificate-data"),
        ({"auth-provider": {"name": "gcp"}}, "users[reader].user.auth-provider: programs that fetch credentials are "
         "never run; use a token or client-certificate-data"),
        ({"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}, "users[reader].user.tokenFile: files "
         "are never read; put the token itself into token"),
        ({"tokenfile": "/x"}, "users[reader].user.tokenFile: files are never read; put the token itself into token"),
        ({"client-certificate": "/x"}, "users[reader].user.client-certificate: files are never read; put the "
         "contents into client-certificate-data (kubectl config view --raw --flatten does)"),
        ({"client-key": "/x"}, "users[reader].user.client-key: files are never read; put the contents into "
         "client-key-data (kubectl config view --raw --flatten does)"),
        ({"username": "admin", "password": "x"}, "users[reader].user.username: Kubernetes has no passwords since "
         "1.19; use a token"),
        ({"as": "system:admin"}, "users[reader].user.as: impersonation is not supported; use that user's own token"),
        ({"as-groups": ["system:masters"]}, "users[reader].user.as-groups: impersonation is not supported; use that "
         "user's own token"),
        ({"token": 12345}, "users[reader].user.token: is not text; put it in quotes"),
        ({"token": "two\nlines"}, "users[reader].user.token: holds characters that no token has; copy it again"),
        ({"token": ""}, "users[reader].user: has neither a token nor client-certificate-data; put one in"),
        ({"token": None, "client-key-data": encoded("-----BEGIN KEY-----")}, "users[reader].user: "
         "needs both client-certificate-data and client-key-data, or neither"),
        ({"client-key-data": "*"}, "users[reader].user.client-key-data: is not base64 of PEM text"),
        ({"client-key-data": encoded("key")}, "users[reader].user.client-key-data: holds no PEM text (-----BEGIN "
         "...)"),
    ],
)  # fmt: skip
def test_credentials_that_are_refused(user: dict[str, Any], why: str) -> None:
    assert refusal(kubeconfig({"server": SERVER}, {"token": "t0k3n", **user})) == why


@pytest.mark.parametrize(
    ("cluster", "why"),
    [
        ({"certificate-authority": "/etc/passwd"}, "certificate-authority: files are never read; put the contents "
         "into certificate-authority-data (kubectl config view --raw --flatten does)"),
        ({"proxy-url": "http://192.0.2.1:3128"}, "proxy-url: proxies are not used; give a server that is reached "
         "directly"),
        ({"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify: the credentials would go to whoever answers; "
         "give certificate-authority-data"),
        ({"server": ""}, 'server: "" is not a URL such as https://203.0.113.10:6443'),
        ({"server": "http://203.0.113.10"}, "server: http://203.0.113.10 is not a URL such as "
         "https://203.0.113.10:6443"),
        ({"server": "https://xn--"}, "server: https://xn-- is not a URL such as https://203.0.113.10:6443"),
        ({"server": "https://203.0.113.10:0"}, "server: https://203.0.113.10:0 is not a URL such as "
         "https://203.0.113.10:6443"),
        ({"server": "https://203.0.113.10:99999"}, "server: https://203.0.113.10:99999 is not a URL such as "
         "https://203.0.113.10:6443"),
        ({"server": "https://admin:secret@203.0.113.10"}, "server: has a user name or password in it; use a token"),
        ({"server": "https://10.244.1.1"}, "server: 10.244.1.1 is in the range 10.244.0.0/16, which the operator's "
         "configuration refuses; the server must be outside this cluster"),
        ({"server": "https://[::ffff:169.254.169.254]:443"}, "server: ::ffff:169.254.169.254 is a cloud metadata "
         "address in IPv4-mapped form; the server must be outside this cluster"),
        ({"server": "https://127.0.0.1:6443"}, "server: 127.0.0.1 is a loopback address; the server must be outside "
         "this cluster"),
    ],
)  # fmt: skip
def test_clusters_that_are_refused(cluster: dict[str, Any], why: str) -> None:
    assert refusal(kubeconfig({"server": SERVER, **cluster}, {"token": "t"})) == f"clusters[a].cluster.{why}"


@pytest.mark.parametrize("name", [".", "...", "a..b", "a.", "a" * 64, "a." * 126 + "aa", "\0", "\u202e", "a:443"])
def test_a_name_by_which_no_server_can_be_asked_for_is_refused(name: str) -> None:
    why = refusal(kubeconfig({"server": SERVER, "tls-server-name": name}, {"token": "t"}))
    assert why.startswith("clusters[a].cluster.tls-server-name: ")
    assert why.endswith(" must be a DNS name such as db.example.com, or an IP address; it has no port")


@pytest.mark.parametrize("server", ["HTTPS://203.0.113.10:6443", "https://203.0.113.10:6443//", SERVER])
def test_a_server_is_read_as_kubectl_reads_it(server: str, issued: credentials.Certificates) -> None:
    cluster = {"server": server, "certificate-authority-data": encoded(f"# Prüfstelle\n{issued.ca}")}
    found = read_kubeconfig(secret(kubeconfig(cluster, {"token": "t"})), "kubeconfig")
    assert (found.config.server, found.config.ca) == (SERVER, issued.ca)
    assert found.tls is not None
    assert len(found.tls.get_ca_certs()) == 1


def test_both_kinds_of_kubeconfig_are_refused_in_the_same_words(tmp_path: Path) -> None:
    file = tmp_path / "config"
    for text in (
        "",
        "{",
        "just text",
        kubeconfig({"server": "ftp://a"}, {"token": "t"}),
        kubeconfig({"server": SERVER, "tls-server-name": "."}, {"token": "t"}),
        kubeconfig({"server": SERVER, "proxy-url": "http://p"}, {"token": "t"}),
        kubeconfig({"server": SERVER}, {"exec": {"command": "aws"}, "username": "a"}),
        kubeconfig({"server": SERVER}, {"client-key-data": "*"}),
        kubeconfig({"server": SERVER}, {"token": 5}),
        kubeconfig({"server": SERVER}, {}, contexts=[]),
        kubeconfig({"server": SERVER}, {}, users=[{"name": "a"}, {"name": "a"}]),
    ):
        file.write_text(text)
        with pytest.raises(MoorageError) as caught:
            load(file)
        assert str(caught.value).removeprefix(f"kubeconfig {file}: ") == refusal(text).removeprefix("kubeconfig: ")


def test_what_is_refused_is_refused_in_contexts_that_are_not_used_too() -> None:
    more = {
        "users": [{"name": "reader", "user": {"token": "t"}}, {"name": "eks", "user": {"exec": {"command": "aws"}}}]
    }
    assert refusal(kubeconfig({"server": SERVER}, {}, **more)).startswith("users[eks].user.exec: ")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"current-context": ""}, "current-context: is not set; name a context"),
        ({"current-context": "b"}, "current-context: no context is named b; there are: a"),
        ({"contexts": None}, "current-context: no context is named a; there are: none"),
        ({"contexts": [{"name": "a", "context": {"cluster": "c", "user": "reader"}}]},
         "contexts[a].context.cluster: no cluster is named c"),
        ({"contexts": [{"name": "a", "context": {"cluster": "a"}}]}, 'contexts[a].context.user: no user is named ""'),
        ({"clusters": "a"}, "clusters: is not a list"),
        ({"clusters": [7]}, "clusters[0]: is not a mapping"),
        ({"users": [{"name": "reader", "user": []}, {"name": "reader"}]}, "users[1]: user reader is given twice; "
         "keep one"),
        ({"users": [{"name": "reader", "user": ["x"]}]}, "users[0].user: is not a mapping"),
    ],
)  # fmt: skip
def test_contexts_that_lead_nowhere(more: dict[str, Any], why: str) -> None:
    assert refusal(kubeconfig({"server": SERVER}, {"token": "t"}, **more)) == why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "kubeconfig: holds no YAML documents; put one kubeconfig there"),
        ("just text", "kubeconfig: is not a mapping; put a kubeconfig there"),
        ("{", "kubeconfig: line 1: not valid YAML, or a key that is given twice; fetch the kubeconfig again"),
        ("a: 1\n---\nb: 2\n", "kubeconfig: holds several YAML documents; put one kubeconfig there"),
    ],
)  # fmt: skip
def test_what_is_no_kubeconfig(text: str, why: str) -> None:
    assert refusal(text) == why


@pytest.mark.parametrize(
    "text",
    [
        "s3cr3t: 1\ns3cr3t: 2\n",
        "a:\n  *s3cr3t\n",
        "a:\n  !s3cr3t x\n",
        "a:\n  !!int s3cr3t\n",
        '{"a": 1,\n "s3cr3t": 1, "s3cr3t": 2}',
        "a:\n%s3cr3t\n",
    ],
)
def test_what_is_no_yaml_is_said_by_its_line_without_its_content(text: str) -> None:
    why = refusal(text)
    assert re.match(r"kubeconfig: line [12]: not valid YAML", why)
    assert "s3cr3t" not in why


def test_a_password_in_an_address_that_is_none_is_not_said() -> None:
    why = refusal(kubeconfig({"server": "https://admin:s3cr3t@203.0.113.10:99999"}, {"token": "t"}))
    assert why == "clusters[a].cluster.server: has a user name or password in it; use a token"


def test_json_is_read_too() -> None:
    content = json.dumps(yaml.safe_load(kubeconfig({"server": SERVER}, {"token": "t"})), indent="\t")
    assert read(content).server == SERVER


@pytest.mark.parametrize(
    "text",
    [
        "a: [" + "0," * 32_000 + "]",
        '{"a": [' + "{}," * 20_000 + "0]}",
        "---\n" * 16_000,
        "{}\n---\n" * 8_000,
        "a: &a []\nb: [" + "*a," * 9_000 + "]",
    ],
)
def test_text_of_many_values_is_read_no_further_than_allowed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    take = manifest_yaml._Builder.take

    def counting(self: Any, event: Any) -> bool:
        nonlocal taken
        taken += 1
        return take(self, event)

    monkeypatch.setattr(manifest_yaml._Builder, "take", counting)
    why = refusal(text)
    assert re.match(
        r"kubeconfig: (line \d+: (more than 2000 values; leave|aliases are not supported; write)|holds several YAML)",
        why,
    )
    assert 0 < taken <= MAX_VALUES


def test_a_kubeconfig_of_many_contexts_is_taken() -> None:
    more = {
        "clusters": [{"name": "a", "cluster": {"server": SERVER}}]
        + [{"name": f"c{number}", "cluster": {"server": SERVER, "extensions": [{"x": 1}]}} for number in range(40)],
        "users": [{"name": "reader", "user": {"token": "t"}}]
        + [{"name": f"u{number}", "user": {"token": "t"}} for number in range(40)],
    }
    assert read(kubeconfig({}, {}, **more)).server == SERVER


def test_a_huge_kubeconfig_is_not_read() -> None:
    with pytest.raises(MoorageError, match=r"key kubeconfig: too large; a kubeconfig has at most 65536 bytes"):
        read("a" * 70_000)


def test_the_key_must_be_there_and_be_text() -> None:
    given_ = secret("x")
    with pytest.raises(
        MoorageError, match=r"^Secret frontend/cluster-a: has no key config; its keys are: kubeconfig$"
    ):
        read_kubeconfig(given_, "config")
    for data in ("%%%", "gICA"):
        with pytest.raises(MoorageError, match="is not text; put a kubeconfig there"):
            read_kubeconfig(replace(given_, data={"kubeconfig": data}), "kubeconfig")


def test_certificates_that_openssl_does_not_take_are_refused() -> None:
    cluster = {"server": SERVER, "certificate-authority-data": encoded("-----BEGIN CERTIFICATE-----\nx\n")}
    assert "certificate-authority: not a certificate" in refusal(kubeconfig(cluster, {"token": "t"}))


def test_a_key_with_which_signing_takes_long_is_refused(issued: credentials.Certificates) -> None:
    def user(length: int) -> dict[str, Any]:
        key = "-----BEGIN PRIVATE KEY-----\n".ljust(length, "A")
        return {"client-certificate-data": encoded(issued.certificate), "client-key-data": encoded(key)}

    assert refusal(kubeconfig({"server": SERVER}, user(6363))) == (  # as long as RSA of 8192 bits
        "users[reader].user.client-key-data: 6363 bytes, more than 4096; use an ECDSA key, or RSA of at most 4096 "
        "bits"
    )
    assert refusal(kubeconfig({"server": SERVER}, user(3272))).startswith("certificates: ")  # of 4096 bits


def test_certificates_and_keys_that_are_made_to_be_a_burden_are_refused(issued: credentials.Certificates) -> None:
    burden = pem([certificate(rsa_key(16384))])
    for cluster, user, field in (
        ({"certificate-authority-data": encoded(issued.ca + burden)}, {"token": "t"}, "certificate-authority"),
        (
            {},
            {"client-certificate-data": encoded(issued.certificate + burden), "client-key-data": encoded(issued.key)},
            "client-certificate",
        ),
    ):
        why = refusal(kubeconfig({"server": SERVER, **cluster}, user))
        assert why == (
            f"certificates: {SERVER}: {field}: certificate 2: RSA key of 16384 bits; use one of at most 8192"
        )
    key = issued.key.replace("EC PRIVATE", "DSA PRIVATE")
    user = {"client-certificate-data": encoded(issued.certificate), "client-key-data": encoded(key)}
    assert refusal(kubeconfig({"server": SERVER}, user)).startswith(
        f"certificates: {SERVER}: client-key: DSA keys are not supported; use RSA, ECDSA"
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["clusters", "users", "contexts", "current-context"]), values), values, values)
def test_whatever_a_tenant_writes_is_a_config_or_an_error_for_a_person(more: Any, cluster: Any, user: Any) -> None:
    try:
        config = read(kubeconfig(cluster, user, **more))
    except MoorageError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert config.token_file is None
        assert config.server.startswith("https://")


# --- the client ---------------------------------------------------------------------------------------------------


async def test_a_client_reads_a_server_that_the_gate_lets_through() -> None:
    async with api_server(tls=True) as server:
        config = read(kubeconfig_of(server.config), LOOPBACK_ALLOWED)
        async with client_of(config, FakeNames(), lambda: LOOPBACK_ALLOWED) as client:
            assert (await client.list(Service, "default")).items == []


def test_clients_of_a_kubeconfig_share_its_certificates() -> None:
    found = read_kubeconfig(secret(kubeconfig({"server": SERVER}, {"token": "t"})), "kubeconfig")
    assert found.tls is not None
    for _ in range(2):
        assert client_of(found.config, FakeNames(), lambda: GATE)._tls is found.tls


async def test_a_name_passes_the_gate_at_every_connection() -> None:
    names = FakeNames()
    async with api_server(tls=True) as server:
        port = server.config.server.rpartition(":")[2]
        config = replace(
            read(kubeconfig_of(server.config), LOOPBACK_ALLOWED),
            server=f"https://api.example.com:{port}",
            tls_server_name="localhost",
        )
        names.put("api.example.com", "127.0.0.1")
        async with client_of(config, names, lambda: LOOPBACK_ALLOWED) as client:
            assert (await client.list(Service, "default")).items == []
        async with client_of(config, names, Gate) as client:
            with pytest.raises(UnreachableError, match=r"cannot connect: 127\.0\.0\.1 is a loopback address$"):
                await client.list(Service, "default")
        names.fail("api.example.com")
        names.fail("api.example.com", "AAAA")
        async with client_of(config, names, lambda: LOOPBACK_ALLOWED) as client:
            with pytest.raises(UnreachableError, match=r"cannot look up its name: api.example.com A: .*SERVFAIL"):
                await client.list(Service, "default")


async def test_a_wrong_authority_is_refused(issued: credentials.Certificates) -> None:
    async with api_server(tls=True) as server:
        text = kubeconfig_of(replace(server.config, ca=issued.ca))
        async with client_of(read(text, LOOPBACK_ALLOWED), FakeNames(), lambda: LOOPBACK_ALLOWED) as client:
            with pytest.raises(UnreachableError, match=r"TLS: .*check certificate-authority"):
                await client.list(Service, "default")


async def test_one_family_is_enough() -> None:
    names = FakeNames()
    names.fail("api.example.com")
    names.put("api.example.com", "2001:db8::10", type="AAAA")
    (found,) = await _Resolver(names).resolve("api.example.com", 6443, socket.AF_UNSPEC)
    assert (found["host"], found["port"], found["family"]) == ("2001:db8::10", 6443, socket.AF_INET6)
