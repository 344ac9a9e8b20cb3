"""The text that Moorage grew from, with plain Kubernetes and nothing of Moorage's installed."""

import re
from collections.abc import Iterator

import pytest

from e2e.harness.clusters import Clusters

ANSWER = re.compile(r"frontend\[frontend-[\w-]+\] -> backend\[(backend[12])-[\w-]+\]\n")
REQUESTS = 24
AFFINITY = "  sessionAffinity: ClientIP\n"
TYPED = ("203.0.113.1", "203.0.113.2")
"""The addresses in the file that the text says to replace."""
ENDPOINTS = """\
apiVersion: v1
kind: Endpoints
metadata:
  name: backend
  namespace: frontend
subsets:
- addresses:
  - ip: {}
  - ip: {}
  ports:
  - port: 80
"""


@pytest.fixture(scope="module")
def backends(clusters: Clusters) -> Iterator[tuple[str, str]]:
    """The public addresses of the two backends of A, as `kubectl -n backend get svc` shows them."""
    clusters.a.apply(clusters.demo("k8s-backend.yml"))
    for name in ("backend1", "backend2"):
        clusters.a.wait_for_deployment("backend", name)
    yield clusters.a.load_balancer("backend", "backend1-lb"), clusters.a.load_balancer("backend", "backend2-lb")
    clusters.a.delete_namespace("backend")


@pytest.fixture
def frontend(clusters: Clusters, backends: tuple[str, str]) -> Iterator[str]:
    """The manifest of the frontend, the addresses replaced; what it makes in B is removed afterwards."""
    manifest = clusters.demo("k8s-frontend.yml")
    for typed, address in zip(TYPED, backends, strict=True):
        assert f'["{typed}"]' in manifest
        manifest = manifest.replace(f'["{typed}"]', f'["{address}"]')
    yield manifest
    clusters.b.delete_namespace("frontend")


def apply(clusters: Clusters, manifests: str) -> str:
    """Apply to B, wait until the frontend answers, and return its public address."""
    clusters.b.apply(manifests)
    clusters.b.wait_for_deployment("frontend", "frontend")
    address = clusters.b.load_balancer("frontend", "frontend-lb")
    clusters.b.eventually("an answer of the frontend", lambda: clusters.curl(f"http://{address}"))
    return address


def asked(clusters: Clusters, address: str, requests: int = REQUESTS) -> list[str]:
    """Which backend answered each request."""
    answers = [clusters.curl(f"http://{address}") for _ in range(requests)]
    matches = [ANSWER.fullmatch(answer) for answer in answers]
    assert all(matches), answers
    return [match[1] for match in matches if match]


def test_the_same_backend_is_always_used(clusters: Clusters, frontend: str) -> None:
    backends = asked(clusters, apply(clusters, frontend))
    assert len(backends) >= 20
    assert len(set(backends)) == 1


def test_without_session_affinity_both_are_used(clusters: Clusters, frontend: str) -> None:
    assert frontend.count(AFFINITY) == 1
    address = apply(clusters, frontend)
    assert len(set(asked(clusters, address))) == 1
    balanced = frontend.replace(AFFINITY, "  # sessionAffinity: ClientIP\n")
    assert apply(clusters, balanced) == address
    # With two endpoints, a run of 24 at one of them has a chance of 1 in 8 million.
    clusters.b.eventually("answers of both", lambda: set(asked(clusters, address)) == {"backend1", "backend2"})


def test_the_text_s_endpoints_object_works_too(clusters: Clusters, frontend: str, backends: tuple[str, str]) -> None:
    documents = frontend.split("---\n")
    (slice_,) = (text for text in documents if "kind: EndpointSlice" in text)
    documents.remove(slice_)
    address = apply(clusters, "---\n".join([*documents, ENDPOINTS.format(*backends)]))
    assert len(set(asked(clusters, address))) == 1
