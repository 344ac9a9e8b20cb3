import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moorage.cluster import kubeconfig
from moorage.errors import MoorageError

PEM = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
KEY = PEM.replace("CERTIFICATE", "PRIVATE KEY")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(
    directory: Path, *, cluster: object = None, user: object = None, context: object = None, **top: Any
) -> Path:
    """A kubeconfig with one cluster, user and context, each as given."""
    data = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://192.0.2.1:6443"}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "here", "context": context or {"cluster": "c", "user": "u"}}],
        **top,
    }
    file = directory / "config"
    file.write_text(yaml.safe_dump(data))
    return file


def test_inline_data_is_decoded(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        cluster={"server": "https://192.0.2.1:6443/", "certificate-authority-data": b64(PEM), "tls-server-name": "k"},
        user={"client-certificate-data": b64(PEM), "client-key-data": b64(KEY), "token": "t\n"},
        context={"cluster": "c", "user": "u", "namespace": "frontend"},
    )
    assert kubeconfig.load(file) == kubeconfig.Config(
        server="https://192.0.2.1:6443",
        token="t",
        ca=PEM,
        client_certificate=PEM,
        client_key=KEY,
        tls_server_name="k",
        namespace="frontend",
    )


def test_files_are_found_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.crt").write_text(PEM)
    (tmp_path / "pki" / "key").write_text(KEY)
    file = write(
        tmp_path,
        cluster={"server": "https://192.0.2.1", "certificate-authority": "pki/ca.crt"},
        user={
            "client-certificate": str(tmp_path / "pki" / "ca.crt"),
            "client-key": "pki/key",
            "tokenFile": "pki/token",
        },
    )
    config = kubeconfig.load(file)
    assert (config.ca, config.client_certificate, config.client_key) == (PEM, PEM, KEY)
    assert config.token_file == str(tmp_path / "pki" / "token")


def test_a_context_can_be_chosen_and_defaults_to_the_current_one(tmp_path: Path) -> None:
    contexts = [
        {"name": "here", "context": {"cluster": "c", "user": "u"}},
        {"name": "there", "context": {"cluster": "c", "namespace": "other"}},
    ]
    file = write(tmp_path, user={"token": "t"}, contexts=contexts)
    assert kubeconfig.load(file) == kubeconfig.Config(server="https://192.0.2.1:6443", token="t")
    assert kubeconfig.load(file, "there") == kubeconfig.Config(server="https://192.0.2.1:6443", namespace="other")


def test_a_context_that_is_asked_for_and_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MoorageError, match=r": contexts: no context is named there; there are: here$"):
        kubeconfig.load(write(tmp_path), "there")


def test_what_is_refused_may_stand_in_contexts_of_ours_that_are_not_used(tmp_path: Path) -> None:
    users = [{"name": "u", "user": {"token": "t"}}, {"name": "eks", "user": {"exec": {"command": "aws"}}}]
    assert kubeconfig.load(write(tmp_path, users=users)).token == "t"


@pytest.mark.parametrize(
    ("written", "server"),
    [
        ("HTTPS://API.example.com:443/", "https://api.example.com"),
        ("https://192.0.2.1//k8s/clusters/c-1/", "https://192.0.2.1/k8s/clusters/c-1"),
        ("Http://192.0.2.1:80", "http://192.0.2.1"),
    ],
)
def test_a_server_is_read_as_kubectl_reads_it(tmp_path: Path, written: str, server: str) -> None:
    assert kubeconfig.load(write(tmp_path, cluster={"server": written})).server == server
    assert kubeconfig.Config(server=written).server == server


def test_a_server_that_is_no_url_is_refused_however_it_comes() -> None:
    with pytest.raises(MoorageError, match=r"^192\.0\.2\.1:6443 is not a URL such as https://"):
        kubeconfig.Config(server="192.0.2.1:6443")


def test_comments_in_certificates_may_be_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"# Pr\xfcfstelle\n" + PEM.encode())
    for cluster in (
        {"certificate-authority": "ca.crt"},
        {"certificate-authority-data": base64.b64encode((tmp_path / "ca.crt").read_bytes()).decode()},
    ):
        ca = kubeconfig.load(write(tmp_path, cluster={"server": "https://192.0.2.1", **cluster})).ca
        assert ca is not None
        assert ca.endswith(PEM)


def test_a_kubeconfig_is_read_no_further_than_any_has_content(tmp_path: Path) -> None:
    for text, why in (
        ("a: &a [" + "0," * 9 + "]\nb: *a\n", "line 2: aliases are not supported; write the value out"),
        ("a: [" + "0," * 200_000 + "]", "line 1: more than 200000 values; leave out what is not used"),
        ("a" * (kubeconfig.MAX_FILE_BYTES + 1), f"more than {kubeconfig.MAX_FILE_BYTES} bytes; name a kubeconfig"),
    ):
        (tmp_path / "config").write_text(text)
        with pytest.raises(MoorageError) as caught:
            kubeconfig.load(tmp_path / "config")
        assert str(caught.value) == f"kubeconfig {tmp_path}/config: {why}"


def test_credentials_are_not_shown() -> None:
    config = kubeconfig.Config(server="https://192.0.2.1", token="secret", client_key="secret")
    assert "secret" not in repr(config)
    assert "secret" not in f"{config}"


SERVER = {"server": "https://192.0.2.1"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"current-context": ""}, "current-context: is not set; name a context"),
        ({"current-context": "x"}, "current-context: no context is named x; there are: here"),
        ({"contexts": None}, "current-context: no context is named here; there are: none"),
        ({"clusters": []}, "contexts[here].context.cluster: no cluster is named c"),
        ({"users": None}, "contexts[here].context.user: no user is named u"),
        ({"clusters": [{"name": "c"}]}, 'clusters[c].cluster.server: "" is not a URL'),
        ({"clusters": {"a": 1}}, "clusters: is not a list"),
        ({"cluster": {"server": 5}}, "clusters[c].cluster.server: is not text; put it in quotes"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, 'clusters[c].cluster.server: "" is not a URL'),
        ({"cluster": {"server": "192.0.2.1:6443"}}, "clusters[c].cluster.server: 192.0.2.1:6443 is not a URL"),
        ({"cluster": {"server": "https://a:x"}}, "clusters[c].cluster.server: https://a:x is not a URL"),
        ({"cluster": {"server": "ftp://a"}}, "clusters[c].cluster.server: ftp://a is not a URL"),
        (
            {"cluster": SERVER | {"proxy-url": "http://p"}},
            "clusters[c].cluster.proxy-url: proxies are not used; give",
        ),
        (
            {"cluster": SERVER | {"certificate-authority-data": "!!"}},
            "clusters[c].cluster.certificate-authority-data: is not base64 of PEM text",
        ),
        (
            {"cluster": SERVER | {"certificate-authority-data": b64("hello")}},
            "clusters[c].cluster.certificate-authority-data: holds no PEM text",
        ),
        ({"cluster": SERVER | {"certificate-authority": "no"}}, "clusters[c].cluster.certificate-authority: "),
        (
            {"user": {"client-key-data": b64(KEY)}},
            "users[u].user: needs both client-certificate-data and client-key-data",
        ),
        ({"user": {"exec": {"command": "aws"}}}, "users[u].user.exec: programs that fetch credentials are never run"),
        (
            {"user": {"auth-provider": {"name": "gcp"}}},
            "users[u].user.auth-provider: programs that fetch credentials",
        ),
        ({"user": {"username": "a", "password": "b"}}, "users[u].user.username: Kubernetes has no passwords"),
        ({"user": {"as": "somebody"}}, "users[u].user.as: impersonation is not supported"),
        ({"user": {"as-groups": ["a"]}}, "users[u].user.as-groups: impersonation is not supported"),
        ({"user": {"token": "two\nlines"}}, "users[u].user.token: holds characters that no token has"),
        (
            {"cluster": SERVER | {"insecure-skip-tls-verify": "no"}},
            "clusters[c].cluster.insecure-skip-tls-verify: is neither true nor false",
        ),
        (
            {"cluster": {"server": "https://me:s3cr3t@192.0.2.1"}},
            "clusters[c].cluster.server: has a user name or password in it; use a token",
        ),
        (
            {"cluster": SERVER | {"tls-server-name": "a..b"}},
            "clusters[c].cluster.tls-server-name: a..b must be a DNS name such as db.example.com, or an IP address",
        ),
        ({"clusters": [{"name": "c"}, {"name": "c"}]}, "clusters[1]: cluster c is given twice; keep one"),
    ],
)
def test_what_cannot_be_used_is_named_with_file_and_field(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    file = write(tmp_path, **changed)
    with pytest.raises(MoorageError) as caught:
        kubeconfig.load(file)
    assert str(caught.value).startswith(f"kubeconfig {file}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: [", "line 1: not valid YAML, or a key that is given twice; fetch the kubeconfig again$"),
        (b"a: b\n\tc: d", "line 2: not valid YAML"),
        (b"a: !!" + b"x" * 3000, "line 1: not valid YAML[^x]*$"),
        (b"", "holds no YAML documents; put one kubeconfig there"),
        (b"- a", "is not a mapping; put a kubeconfig there"),
        (b"\xff\xfe\x00", "is not text"),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(text)
    with pytest.raises(MoorageError, match=message) as caught:
        kubeconfig.load(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MoorageError, match=r"kubeconfig .*/none: No such file or directory; name a kubeconfig"):
        kubeconfig.load(tmp_path / "none")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["c", "u", "https://a", "-----BEGIN "]) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
CLUSTER = ["server", "certificate-authority-data", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"]
USER = ["token", "tokenFile", "client-certificate-data", "client-key-data", "exec", "as", "username"]


@given(
    st.dictionaries(st.sampled_from(CLUSTER), VALUES),
    st.dictionaries(st.sampled_from(USER), VALUES),
    st.dictionaries(st.sampled_from(["clusters", "users", "contexts", "current-context"]), VALUES, max_size=1),
)
def test_whatever_a_kubeconfig_says_it_is_a_config_or_an_error_for_a_person(
    cluster: dict[str, Any], user: dict[str, Any], top: dict[str, Any]
) -> None:
    content = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        **top,
    }

    def complain(field: str, what: str) -> MoorageError:
        return MoorageError(f"{field}: {what}")

    try:
        found = kubeconfig.parse(json.dumps(content), kubeconfig.OURS, complain, directory=Path("/nonexistent"))
    except MoorageError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert found.config.server.startswith(("https://", "http://"))


def test_a_pod_finds_its_server_and_account(tmp_path: Path) -> None:
    for name, text in (("ca.crt", PEM), ("token", "t"), ("namespace", "moorage\n")):
        (tmp_path / name).write_text(text)
    environ = {"KUBERNETES_SERVICE_HOST": "2001:db8::1", "KUBERNETES_SERVICE_PORT": "443"}
    config = kubeconfig.in_cluster(environ, tmp_path)
    assert config == kubeconfig.Config(
        server="https://[2001:db8::1]:443", ca=PEM, token_file=str(tmp_path / "token"), namespace="moorage"
    )


def test_outside_a_pod_there_is_no_account(tmp_path: Path) -> None:
    with pytest.raises(MoorageError, match="KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set"):
        kubeconfig.in_cluster({}, tmp_path)


@pytest.mark.parametrize("missing", ["ca.crt", "token"])
def test_a_pod_whose_account_is_not_there_is_told_what_it_needs(tmp_path: Path, missing: str) -> None:
    for name, text in (("ca.crt", PEM), ("token", "t")):
        if name != missing:
            (tmp_path / name).write_text(text)
    environ = {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(MoorageError, match="needs a service account with automountServiceAccountToken"):
        kubeconfig.in_cluster(environ, tmp_path)
