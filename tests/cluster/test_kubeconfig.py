import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

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
        {"name": "there", "context": {"cluster": "c", "namespace": "n"}},
    ]
    file = write(tmp_path, user={"token": "t"}, contexts=contexts)
    assert kubeconfig.load(file) == kubeconfig.Config(server="https://192.0.2.1:6443", token="t")
    assert kubeconfig.load(file, "there") == kubeconfig.Config(server="https://192.0.2.1:6443", namespace="n")


def test_credentials_are_not_shown() -> None:
    config = kubeconfig.Config(server="https://192.0.2.1", token="secret", client_key="secret")
    assert "secret" not in repr(config)
    assert "secret" not in f"{config}"


SERVER = {"server": "https://192.0.2.1"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"current-context": ""}, "current-context: is not set; name a context"),
        ({"current-context": "x"}, "contexts: no context is named 'x'; there are: here"),
        ({"contexts": None}, "contexts: no context is named 'here'; there are: none"),
        ({"clusters": []}, "contexts[here].context.cluster: no cluster is named 'c'"),
        ({"users": None}, "contexts[here].context.user: no user is named 'u'"),
        ({"clusters": [{"name": "c"}]}, "clusters[0]: Object missing required field `cluster`"),
        ({"clusters": {"a": 1}}, "clusters: Expected `array | null`, got `object`"),
        ({"cluster": {"server": 5}}, "clusters[0].cluster.server: Expected `str`, got `int`"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, "clusters[c].cluster.server: is missing"),
        ({"cluster": {"server": "192.0.2.1:6443"}}, "clusters[c].cluster.server: '192.0.2.1:6443' is not a URL"),
        ({"cluster": {"server": "https://a:x"}}, "clusters[c].cluster.server: 'https://a:x' is not a URL"),
        ({"cluster": {"server": "ftp://a"}}, "clusters[c].cluster.server: 'ftp://a' is not a URL"),
        ({"cluster": SERVER | {"proxy-url": "http://p"}}, "clusters[c].cluster.proxy-url: proxies are not supported"),
        (
            {"cluster": SERVER | {"certificate-authority-data": "!!"}},
            "clusters[c].cluster.certificate-authority-data: is not base64 of PEM text",
        ),
        (
            {"cluster": SERVER | {"certificate-authority-data": b64("hello")}},
            "clusters[c].cluster.certificate-authority-data: holds no PEM text",
        ),
        ({"cluster": SERVER | {"certificate-authority": "no"}}, "clusters[c].cluster.certificate-authority: "),
        ({"user": {"client-key-data": b64(KEY)}}, "users[u].user: client-certificate and client-key are needed both"),
        ({"user": {"exec": {"command": "aws"}}}, "users[u].user.exec: programs that fetch credentials are not run"),
        (
            {"user": {"auth-provider": {"name": "gcp"}}},
            "users[u].user.auth-provider: programs that fetch credentials",
        ),
        ({"user": {"username": "a", "password": "b"}}, "users[u].user.username: Kubernetes has no passwords"),
        ({"user": {"as": "somebody"}}, "users[u].user.as: impersonation is not supported"),
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
        (b"a: [", "line 1: malformed YAML"),
        (b"a: b\n\tc: d", "line 2: malformed YAML"),
        (b"a: !!" + b"x" * 3000, r"line 1: malformed YAML: .{1,80}; fetch the kubeconfig anew$"),
        (b"", "is not a kubeconfig"),
        (b"- a", "is not a kubeconfig"),
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
    environ = {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(MoorageError, match="needs a service account"):
        kubeconfig.in_cluster(environ, tmp_path)
