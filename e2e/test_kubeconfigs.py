"""A tenant's kubeconfig may name no file, program, proxy or address of this cluster, and what is wrong is said.

What was found stays in use whatever becomes of the Secret and of the other cluster.
"""

import base64
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from e2e.harness.control_plane import free_port
from e2e.harness.following import HERE, THERE, Following, following
from e2e.harness.proxy import Proxy

pytestmark = pytest.mark.every_kubernetes


@pytest.fixture(scope="module")
def running(kubernetes: str) -> Iterator[Following]:
    with following(kubernetes=kubernetes) as made:
        made.balancer("backend1", {"ip": "203.0.113.11"})
        yield made


def cluster(secret: str) -> dict[str, Any]:
    return {"cluster": {"kubeconfigSecretRef": {"name": secret, "key": "kubeconfig"}, "namespace": THERE}}


def grant(running: Following, secret: str) -> None:
    """As the README says."""
    account = "moorage-system:moorage-operator"
    role = f"moorage-{secret}"
    running.api.kubectl(
        *("create", "role", role, "-n", HERE, "--verb=get,list,watch", "--resource=secrets"),
        f"--resource-name={secret}",
    )
    running.api.kubectl("create", "rolebinding", role, "-n", HERE, f"--role={role}", f"--serviceaccount={account}")


def signed(running: Following, lifetime: int) -> str:
    """A token of the reader's account, for so many seconds from now."""
    now = int(time.time())
    account = f"system:serviceaccount:{THERE}:moorage-reader"
    uid = running.api.get("serviceaccount", "moorage-reader", "-n", THERE)["metadata"]["uid"]
    claims = {
        "iss": "https://kubernetes.default.svc.cluster.local",
        "aud": ["https://kubernetes.default.svc.cluster.local"],
        "sub": account, "iat": now - 7200, "nbf": now - 7200, "exp": now + lifetime,
        "kubernetes.io": {"namespace": THERE, "serviceaccount": {"name": "moorage-reader", "uid": uid}},
    }  # fmt: skip
    key = serialization.load_pem_private_key(running.api.credentials.accounts_key.read_bytes(), None)

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    assert isinstance(key, ec.EllipticCurvePrivateKey)
    text = f"{part(json.dumps({'alg': 'ES256'}).encode())}.{part(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def user(running: Following, **fields: Any) -> dict[str, Any]:
    content = running.kubeconfig()
    content["users"][0]["user"].update(fields)
    return content


def server(running: Following, **fields: Any) -> dict[str, Any]:
    content = running.kubeconfig()
    content["clusters"][0]["cluster"].update({key.replace("_", "-"): value for key, value in fields.items()})
    return content


KUBECONFIG = "Secret frontend/{name}, key kubeconfig: "
INSIDE = "the server must be outside this cluster"


def cases(running: Following) -> dict[str, tuple[object, str, list[str]]]:
    """By name: what is in the Secret, the reason of the condition, and words of its message."""
    here = "169.254.169.254"
    return {
        "malformed": ("clusters: [", "KubeconfigRefused", [KUBECONFIG, "kubeconfig: line 1: not valid YAML"]),
        "no-kubeconfig": (
            "just text",
            "KubeconfigRefused",
            [KUBECONFIG, "is not a mapping; put a kubeconfig there"],
        ),
        "no-context": (
            {**running.kubeconfig(), "current-context": "x"},
            "KubeconfigRefused",
            [KUBECONFIG, "current-context: no context is named x; there are: e2e"],
        ),
        "huge": ("# " + "x" * 100_000, "KubeconfigRefused", [KUBECONFIG, "a kubeconfig has at most 65536"]),
        "exec": (
            user(running, exec={"apiVersion": "client.authentication.k8s.io/v1", "command": "aws"}),
            "KubeconfigRefused",
            [KUBECONFIG, "users[e2e].user.exec: programs that fetch credentials are never run"],
        ),
        "auth-provider": (
            user(running, **{"auth-provider": {"name": "gcp"}}),
            "KubeconfigRefused",
            [KUBECONFIG, "users[e2e].user.auth-provider: programs that fetch credentials are never run"],
        ),
        "token-file": (
            user(running, tokenFile="/var/run/secrets/kubernetes.io/serviceaccount/token"),
            "KubeconfigRefused",
            [KUBECONFIG, "users[e2e].user.tokenFile: files are never read; put the token itself into token"],
        ),
        "certificate-file": (
            user(running, **{"client-certificate": "/etc/passwd"}),
            "KubeconfigRefused",
            [KUBECONFIG, "users[e2e].user.client-certificate: files are never read"],
        ),
        "key-file": (
            user(running, **{"client-key": "/etc/passwd"}),
            "KubeconfigRefused",
            [KUBECONFIG, "users[e2e].user.client-key: files are never read"],
        ),
        "authority-file": (
            server(running, certificate_authority="/etc/ssl/certs/ca-certificates.crt"),
            "KubeconfigRefused",
            [KUBECONFIG, "clusters[e2e].cluster.certificate-authority: files are never read"],
        ),
        "proxy": (
            server(running, proxy_url="http://192.0.2.1:3128"),
            "KubeconfigRefused",
            [KUBECONFIG, "clusters[e2e].cluster.proxy-url: proxies are not used"],
        ),
        "impersonation": (
            user(running, **{"as": "system:admin"}),
            "KubeconfigRefused",
            [KUBECONFIG, "users[e2e].user.as: impersonation is not supported"],
        ),
        "password": (
            user(running, username="admin", password="x"),
            "KubeconfigRefused",
            [KUBECONFIG, "users[e2e].user.username: Kubernetes has no passwords"],
        ),
        "unverified": (
            server(running, insecure_skip_tls_verify=True),
            "KubeconfigRefused",
            [KUBECONFIG, "insecure-skip-tls-verify: the credentials would go to whoever answers"],
        ),
        "plain-http": (
            running.kubeconfig(server=running.api.server.replace("https:", "http:")),
            "KubeconfigRefused",
            [KUBECONFIG, "clusters[e2e].cluster.server: http://", "is not a URL such as https://"],
        ),
        "loopback": (
            running.kubeconfig(server=running.api.server.replace("127.0.0.1", "127.0.0.2")),
            "KubeconfigRefused",
            [KUBECONFIG, "clusters[e2e].cluster.server: 127.0.0.2 is a loopback address", INSIDE],
        ),
        "metadata": (
            running.kubeconfig(server=f"https://{here}"),
            "KubeconfigRefused",
            [KUBECONFIG, f"clusters[e2e].cluster.server: {here} is a cloud metadata address", INSIDE],
        ),
        "service-range": (
            running.kubeconfig(server="https://10.96.7.7"),
            "KubeconfigRefused",
            [KUBECONFIG, "10.96.7.7 is in the service range 10.96.0.0/16 of this cluster", INSIDE],
        ),
        "name-inside": (
            running.kubeconfig(server="https://inside.example.com"),
            "ClusterUnreachable",
            ["cannot connect: 10.96.0.1 is in the service range 10.96.0.0/16 of this cluster"],
        ),
        "no-such-name": (
            running.kubeconfig(server="https://nothing.example.com"),
            "ClusterUnreachable",
            ["cannot look up its name: nothing.example.com has no address"],
        ),
        "wrong-authority": (
            running.kubeconfig(ca=trustme.CA().cert_pem.bytes().decode()),
            "ClusterUnreachable",
            ["TLS: ", "check certificate-authority"],
        ),
        "nobody-there": (
            running.kubeconfig(server=f"https://127.0.0.1:{free_port()}"),
            "ClusterUnreachable",
            ["cannot connect: Connection refused; is the server running?"],
        ),
        "expired-token": (
            running.kubeconfig(token=signed(running, -3600)),
            "KubeconfigRejected",
            [
                "the other cluster does not accept the credentials in Secret frontend/{name}",
                "they may have expired: make a new kubeconfig and put it there",
            ],
        ),
        "no-right": (
            running.kubeconfig(token=running.api.kubectl("create", "token", "nobody", "-n", THERE).strip()),
            "ClusterForbids",
            ["does not let the user of Secret frontend/{name} get, list and watch services in namespace backend"],
        ),
    }


NAMES = (
    "malformed", "no-kubeconfig", "no-context", "huge", "exec", "auth-provider", "token-file", "certificate-file",
    "key-file", "authority-file", "proxy", "impersonation", "password", "unverified", "plain-http", "loopback",
    "metadata", "service-range", "name-inside", "no-such-name", "wrong-authority", "nobody-there", "expired-token",
    "no-right",
)  # fmt: skip


@pytest.fixture(scope="module")
def asked(running: Following) -> dict[str, tuple[object, str, list[str]]]:
    """An ExternalService for each."""
    running.names.put("inside.example.com", "A", "10.96.0.1")
    running.api.kubectl("create", "serviceaccount", "nobody", "-n", THERE)
    known = cases(running)
    role = ("create", "role", "moorage-cases", "-n", HERE, "--verb=get,list,watch", "--resource=secrets")
    running.api.kubectl(*role, *(f"--resource-name=bad-{name}" for name in known))
    account = "moorage-system:moorage-operator"
    binding = ("create", "rolebinding", "moorage-cases", "-n", HERE, "--role=moorage-cases")
    running.api.kubectl(*binding, f"--serviceaccount={account}")
    for name, (content, _, _) in known.items():
        running.secret(f"bad-{name}", content)
        running.external(f"bad-{name}", cluster(f"bad-{name}"))
    return known


@pytest.mark.parametrize("name", NAMES)
def test_a_kubeconfig_that_cannot_be_used_is_said_with_what_to_do(
    running: Following, asked: dict[str, tuple[object, str, list[str]]], name: str
) -> None:
    _, reason, words = asked[name]
    expected = [each.replace("{name}", f"bad-{name}") for each in words]
    message = running.until_condition(f"bad-{name}", "Resolved", "False", reason, *expected)
    assert message.startswith("cluster/backend: spec.endpoints[0].cluster: ")
    assert "since 20" in message
    assert message.isprintable()
    assert running.token not in message
    assert running.endpoints(f"bad-{name}") == {}


def test_all_cases_are_asked(asked: dict[str, tuple[object, str, list[str]]]) -> None:
    assert set(asked) == set(NAMES)


def test_a_token_with_time_left_is_taken(running: Following) -> None:
    """Or the test of the expired one would prove nothing."""
    running.secret("signed", running.kubeconfig(token=signed(running, 3600)))
    grant(running, "signed")
    running.external("signed", cluster("signed"))
    running.until("signed", {"backend1": "203.0.113.11"})


def test_a_secret_is_only_read_where_a_rolebinding_says_so_and_the_message_has_the_commands(
    running: Following,
) -> None:
    running.secret("private", running.kubeconfig())
    running.external("private", cluster("private"))
    message = running.until_condition(
        "private", "Resolved", "False", "SecretNotReadable", "Secret frontend/private may not be read by the operator"
    )
    _, _, commands = message.partition("grant it: ")
    commands, _, _ = commands.partition(" (since")
    for command in commands.split(" && "):
        program, *arguments = shlex.split(command)
        assert program == "kubectl"
        running.api.kubectl(*arguments)
    running.until("private", {"backend1": "203.0.113.11"})


def test_what_was_found_stays_whatever_becomes_of_the_secret(running: Following) -> None:
    found = {"backend1": "203.0.113.11"}
    grant(running, "comes-and-goes")
    running.external("comes-and-goes", cluster("comes-and-goes"))
    running.until_condition(
        "comes-and-goes",
        "Resolved",
        "False",
        "SecretMissing",
        "Secret frontend/comes-and-goes does not exist; create it",
    )
    running.secret("comes-and-goes", running.kubeconfig())
    running.until("comes-and-goes", found)
    for content, reason in (
        ("broken", "KubeconfigRefused"),
        (running.kubeconfig(token="revoked"), "KubeconfigRejected"),
        (running.kubeconfig(server=f"https://127.0.0.1:{free_port()}"), "ClusterUnreachable"),
    ):
        running.secret("comes-and-goes", content)
        message = running.until_condition("comes-and-goes", "Resolved", "False", reason)
        assert "its last endpoint stays in use" in message
        assert running.endpoints("comes-and-goes") == found
    running.api.kubectl("delete", "secret", "comes-and-goes", "-n", HERE)
    running.until_condition("comes-and-goes", "Resolved", "False", "SecretMissing")
    assert running.endpoints("comes-and-goes") == found
    running.secret("comes-and-goes", running.kubeconfig())
    running.until_condition("comes-and-goes", "Resolved", "True", "Resolved")


def test_while_the_other_cluster_cannot_be_reached_its_endpoints_stay_and_it_is_said_since_when(
    running: Following, tmp_path: Path
) -> None:
    found = {"backend1": "203.0.113.11", "outage": "203.0.113.61"}
    running.balancer("outage", {"ip": "203.0.113.61"})
    grant(running, "outage")
    with Proxy(running.api, tmp_path) as proxy:
        running.secret("outage", proxy.kubeconfig_of(running.token).read_text())
        running.external("outage", cluster("outage"))
        running.until("outage", found)
        proxy.cut()
        proxy.stop()
        running.api.kubectl("delete", "service", "outage", "-n", THERE)
        first = running.until_condition("outage", "Resolved", "False", "ClusterUnreachable", "Connection refused")
        assert "its last 2 endpoints stay in use" in first
        assert running.endpoints("outage") == found
        proxy.start()
        running.until("outage", {"backend1": "203.0.113.11"})
        running.until_condition("outage", "Resolved", "True", "Resolved")
        proxy.fail(500, path="/services", count=100)
        proxy.cut()
        running.until_condition("outage", "Resolved", "False", "ClusterRefused", "(500 ")
        proxy.clear()
        running.until_condition("outage", "Resolved", "True", "Resolved")


def test_the_operators_own_token_goes_to_no_tenant(running: Following, tmp_path: Path) -> None:
    """Nothing that a kubeconfig may say makes the operator read a file: it is refused before anything is sent."""
    own = tmp_path / "token"
    own.write_text("own")
    grant(running, "steals")
    content = running.kubeconfig(token="")
    content["users"][0]["user"] = {"tokenFile": str(own)}
    running.secret("steals", content)
    running.external("steals", cluster("steals"))
    running.until_condition("steals", "Resolved", "False", "KubeconfigRefused", "tokenFile: files are never read")
