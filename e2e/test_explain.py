"""kubectl explains, lists and applies ExternalServices and Moorings."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from e2e.harness.control_plane import ApiServer
from e2e.harness.world import wait
from moorage.api import crds
from moorage.api.kinds import Kind

XSVC = """
apiVersion: moorage.dev/v1alpha1
kind: ExternalService
metadata: {name: backend}
spec:
  ports: [{port: 9000, targetPort: 80}]
  sessionAffinity: ClientIP
  endpoints: [{addresses: [{name: backend1, address: 203.0.113.11}]}]
  healthCheck: {}
"""
STATUS = {
    "observedGeneration": 1,
    "healthy": "2/3",
    "conditions": [
        {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "fine"},
        {
            "type": "Healthy",
            "status": "False",
            "reason": "SomeUnhealthy",
            "message": "backend3 is down.",
            "lastTransitionTime": (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        {
            "type": "Ready",
            "status": "False",
            "reason": "NoHealthyEndpoint",
            "message": "All checks fail; see status.",
        },
    ],
}


@pytest.fixture(scope="module", autouse=True)
def _published(api_server: ApiServer) -> None:
    """The server publishes new kinds some seconds after their definitions are established."""

    def explained() -> bool:
        said = (api_server.run_kubectl("explain", name, check=False) for name in ("xsvc.spec", "moor.spec"))
        return all("DESCRIPTION:" in one for one in said)

    wait("kubectl explain xsvc", explained, 60)


def patch_status(server: ApiServer, namespace: str, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": status})
    server.kubectl("-n", namespace, "patch", "xsvc", "backend", "--subresource=status", "--type=merge", "-p", patch)


def table(said: str) -> tuple[list[str], list[str]]:
    header, row = said.strip().splitlines()
    return header.split(), row.split()


@pytest.mark.parametrize("kind", crds.custom_kinds(), ids=lambda kind: kind.kind)
def test_every_field_is_explained(api_server: ApiServer, kind: Kind) -> None:
    """As kubectl gets it: explain reads the server's OpenAPI document."""
    document = api_server.kubectl("get", "--raw", f"/openapi/v3/apis/{kind.api_version}")
    published = json.loads(document)["components"]["schemas"][f"dev.moorage.{kind.version}.{kind.kind}"]
    for path, part in crds.walk(crds.schema(kind)):
        if not path.startswith((".metadata", ".apiVersion", ".kind")):
            found = published
            for name in path.replace("[]", ".items").replace("{}", ".additionalProperties").split(".")[1:]:
                found = found[name] if name in ("items", "additionalProperties") else found["properties"][name]
            assert found["description"] == part["description"], path


def test_a_health_check_reads_well(api_server: ApiServer) -> None:
    said = api_server.kubectl("explain", "xsvc.spec.healthCheck")
    assert "How endpoints are checked. Absent: they are not, and all are ready." in said
    assert "intervalSeconds\t<integer>\n    Seconds between two checks of an endpoint. Default: 2." in said
    assert "<no description>" not in said


def test_all_of_it_can_be_seen_at_once(api_server: ApiServer) -> None:
    said = api_server.kubectl("explain", "xsvc.spec.healthCheck", "--recursive")
    assert "expectedStatuses\t<[]string>" in said
    assert "caSecretRef\t<Object>" in said
    assert "enum: None, ClientIP, Mooring" in api_server.kubectl("explain", "xsvc.spec", "--recursive")


def test_a_list_shows_what_a_person_on_call_wants_to_know(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("-n", namespace, "apply", "-f", "-", input=XSVC)
    patch_status(api_server, namespace, STATUS)
    header, row = table(api_server.kubectl("-n", namespace, "get", "xsvc"))
    assert header == ["NAME", "HEALTHY", "READY", "REASON", "SPEC", "SOURCES", "CHECKS", "FAILING", "AGE"]
    assert row[:6] == ["backend", "2/3", "False", "NoHealthyEndpoint", "Accepted", "SomeUnhealthy"]
    assert re.fullmatch(r"\d+d", row[6]), "for how long"
    wide = api_server.kubectl("-n", namespace, "get", "xsvc", "-o", "wide")
    assert wide.splitlines()[0].split()[-3:] == ["AFFINITY", "PROXY", "PROBLEM"]
    assert wide.rstrip().endswith("ClientIP   kube-proxy   backend3 is down."), "the first of the causes"
    assert "externalservice.moorage.dev/backend" in api_server.kubectl("-n", namespace, "get", "all")


def test_moorings_show_who_is_where(api_server: ApiServer, namespace: str) -> None:
    mooring = {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "Mooring",
        "metadata": {"name": "backend.frontend-0"},
        "spec": {"group": "backend", "client": {"kind": "Pod", "name": "frontend-0"}, "endpoint": "backend2"},
        "status": {
            "endpoint": "backend2",
            "since": "2026-01-01T00:00:00Z",
            "reason": "FailedOver",
            "previous": "backend1",
            "home": "backend1",
            "message": "for a test",
        },
    }
    # In one request: there is no subresource for the status.
    api_server.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(mooring))
    assert api_server.get("-n", namespace, "moor", "backend.frontend-0")["status"] == mooring["status"]
    header, row = table(api_server.kubectl("-n", namespace, "get", "moor"))
    assert header == ["NAME", "KIND", "CLIENT", "ENDPOINT", "SINCE", "REASON", "PREVIOUS"]
    assert row[:4] == ["backend.frontend-0", "Pod", "frontend-0", "backend2"]
    assert re.fullmatch(r"\d+d", row[4]), "for how long"
    assert row[5:] == ["FailedOver", "backend1"]
    wide = api_server.kubectl("-n", namespace, "get", "moor", "-o", "wide").splitlines()
    assert wide[0].split()[7:] == ["GROUP", "HOME", "PROBLEM", "AGE"]
    assert re.search(r"backend +backend1 +for a test +\d+s$", wide[1].rstrip())


def test_defaults_are_stored(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("-n", namespace, "apply", "-f", "-", input=XSVC)
    spec = api_server.get("-n", namespace, "xsvc", "backend")["spec"]
    assert spec["proxy"] == "kube-proxy"
    assert spec["healthCheck"] == {
        "fall": 3,
        "intervalSeconds": 2,
        "panicThresholdPercent": 0,
        "rise": 2,
        "timeoutSeconds": 1,
    }


def test_status_is_the_operators_and_spec_is_not(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("-n", namespace, "apply", "-f", "-", input=XSVC)
    patch_status(api_server, namespace, STATUS)
    before = api_server.get("-n", namespace, "xsvc", "backend")
    assert before["metadata"]["generation"] == 1
    api_server.kubectl(
        "-n", namespace, "apply", "-f", "-", input=XSVC.replace("9000", "9001") + "status: {healthy: x}"
    )
    after = api_server.get("-n", namespace, "xsvc", "backend")
    assert after["metadata"]["generation"] == 2
    assert after["status"] == before["status"]


def test_two_may_apply_parts_of_one_object(api_server: ApiServer, namespace: str) -> None:
    def apply(manager: str, text: str) -> str:
        arguments = ("-n", namespace, "apply", "--server-side", f"--field-manager={manager}", "-f", "-")
        return api_server.run_kubectl(*arguments, input=text, check=False)

    head = "apiVersion: moorage.dev/v1alpha1\nkind: ExternalService\nmetadata: {name: backend}\n"
    apply("owner", XSVC)
    apply("on-call", head + "spec: {drain: [{endpoint: backend1}]}")
    spec = api_server.get("-n", namespace, "xsvc", "backend")["spec"]
    assert spec["drain"] == [{"endpoint": "backend1"}]
    assert spec["ports"][0]["port"] == 9000
    assert "conflict" in apply("on-call", head + "spec: {proxy: moorage, sessionAffinity: Mooring}")
    apply("on-call", head + "spec: {}")
    assert "drain" not in api_server.get("-n", namespace, "xsvc", "backend")["spec"]
