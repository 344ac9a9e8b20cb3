"""The real API server refuses bad specs, with words that a person understands.

testing/bad_externals.yml has the objects and the words.
"""

import http.client
import json
import random
import re
import ssl
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from e2e.harness.control_plane import ApiServer
from moorage.api.validation import validate
from testing.bad_externals import FULL, Bad, corpus, damaged

pytestmark = pytest.mark.every_kubernetes
CASES = corpus()
RIGHT: dict[str, dict[str, Any]] = {
    "ExternalService": {
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": [{"name": "backend1", "address": "203.0.113.11"}]}],
    },
    "Mooring": {"group": "backend", "client": {"kind": "Pod", "name": "frontend-0"}, "endpoint": "backend1"},
}


class Store(NamedTuple):
    """A namespace with a right object of each kind, called `right`."""

    server: ApiServer
    connection: http.client.HTTPSConnection
    namespace: str

    def call(self, method: str, kind: str, name: str = "", body: object = None, query: str = "") -> tuple[int, Any]:
        """Status and body of a request; the hundreds of this module would take minutes with kubectl."""
        path = f"/apis/moorage.dev/v1alpha1/namespaces/{self.namespace}/{kind.lower()}s/{name}".rstrip("/")
        headers = {"Authorization": f"Bearer {self.server.token}", "Content-Type": "application/json"}
        self.connection.request(method, f"{path}?fieldValidation=Strict&{query}", json.dumps(body), headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())


def obj(kind: str, spec: object, name: str = "right") -> dict[str, Any]:
    return {"apiVersion": "moorage.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def store(api_server: ApiServer) -> Iterator[Store]:
    context = ssl.create_default_context(cadata=api_server.credentials.ca)
    host, port = api_server.server.removeprefix("https://").split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    made = Store(api_server, connection, "bad-specs")
    api_server.kubectl("create", "namespace", made.namespace)
    for kind, spec in RIGHT.items():
        assert made.call("POST", kind, body=obj(kind, spec))[0] == 201
    yield made
    connection.close()


def lines(status: Any) -> list[str]:
    """What a refusal says, line by line: the field, and what is wrong."""
    causes = status.get("details", {}).get("causes")
    if not causes:
        return [f"{field}: unknown field" for field in re.findall(r'unknown field "([^"]+)"', status["message"])]
    # Where a field has the wrong type, rules are not looked at, which is said in a line of its own.
    return [f"{one['field']}: {one['message']}" for one in causes if one["field"] != "<nil>"]


def holds(line: str, expected: str) -> bool:
    """Whether a line is about the field, and ends with our words where the rule is ours.

    How the API server begins, and what it says of rules of its own, is not the same in each release.
    """
    field, _, words = expected.partition(": ")
    return line.startswith(f"{field}: ") and line.endswith(f": {words}" if words else "")


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.what)
def test_a_bad_object_is_refused_and_loses_nothing(store: Store, bad: Bad) -> None:
    kind = bad.object["kind"]
    metadata = {**bad.object["metadata"], "namespace": store.namespace}
    code, answer = store.call("POST", kind, body={**bad.object, "metadata": metadata})
    assert code // 100 == 4
    said = lines(answer)
    assert [holds(*each) for each in zip(said, bad.server, strict=True)] == [True] * len(said), (said, bad.server)
    before = store.call("GET", kind, "right")[1]
    if before["spec"] != bad.object.get("spec") and metadata["name"] == "backend":
        code, _ = store.call("PUT", kind, "right", {**before, "spec": bad.object.get("spec")})
        assert code // 100 == 4
    assert store.call("GET", kind, "right")[1] == before


def test_moorage_judges_as_the_api_server_does(store: Store) -> None:
    """Over objects that are damaged at random, always the same ones: both refuse them, or both let them in."""
    random_ = random.Random(1)
    verdicts: Counter[bool] = Counter()
    for number in range(3000):
        bad = damaged(random_.choice(FULL), random_)
        code, answer = store.call("POST", bad["kind"], body=bad, query="dryRun=All")
        assert code in (201, 400, 422)
        assert (code == 201) is (validate(bad, strict=True) == []), (number, bad["spec"], answer)
        verdicts[code == 201] += 1
    assert min(verdicts[True], verdicts[False]) > 100


def test_kubectl_shows_the_words(store: Store) -> None:
    body = json.dumps(obj("ExternalService", {"ports": [{"port": 80}], "sessionAffinity": "Mooring"}))
    said = store.server.run_kubectl("-n", store.namespace, "apply", "-f", "-", input=body, check=False)
    assert 'The ExternalService "right" is invalid: spec.sessionAffinity: ' in said
    assert said.rstrip().endswith(
        ": must not be Mooring without sessionAffinityConfig.mooring, which says who the clients are; set its client "
        "to Node, Zone or Namespace, or its podSelector"
    )


@pytest.mark.parametrize(("field", "value"), [("group", "other"), ("client", {"kind": "Pod", "name": "frontend-1"})])
def test_a_mooring_stays_its_clients(store: Store, field: str, value: object) -> None:
    before = store.call("GET", "Mooring", "right")[1]
    code, answer = store.call("PUT", "Mooring", "right", {**before, "spec": {**before["spec"], field: value}})
    assert code == 422
    (line,) = lines(answer)
    assert line.startswith(f"spec.{field}: ")
    assert line.endswith(" must not change; delete the object, and create another")


def test_a_client_can_be_moved(store: Store) -> None:
    before = store.call("GET", "Mooring", "right")[1]
    assert store.call("PUT", "Mooring", "right", {**before, "spec": {**before["spec"], "endpoint": "b2"}})[0] == 200


def test_the_largest_object_that_the_schema_allows_can_be_judged(store: Store) -> None:
    """What the rules really cost has a limit too, for all of them together."""
    sources = [
        {"addresses": [{"address": f"2001:db8::{i:x}:{k:x}", "name": f"n{i:02d}{k:060d}"} for k in range(128)]}
        for i in range(16)
    ]
    spec = {
        "ports": [{"port": 1 + number, "name": f"p{number:062d}"} for number in range(100)],
        "endpoints": sources,
        "drain": [{"endpoint": f"n{number:062d}"} for number in range(1000)],
        "healthCheck": {"http": {"path": "/" + "x" * 2047, "expectedStatuses": ["200-399"] * 20}},
    }
    assert store.call("POST", "ExternalService", body=obj("ExternalService", spec, "largest"))[0] == 201
    sources[15]["addresses"][127]["name"] = sources[15]["addresses"][126]["name"]
    code, answer = store.call("POST", "ExternalService", body=obj("ExternalService", spec, "twice"))
    assert code == 422
    (line,) = lines(answer)
    twice = "must not name an endpoint, or list an address without name, twice; give each its own name"
    assert holds(line, f"spec.endpoints[15].addresses: {twice}")
