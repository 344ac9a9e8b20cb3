"""What people read of moorings that are not carried as they say."""

import msgspec
import pytest

from moorage.api.discovery_v1 import EndpointSlice
from moorage.core.model import Complaint, Endpoint
from testing.xsvc import NAME, NAMESPACE, Story, endpoints, moored, story_of

OVER = Complaint("TooManyNodes", "2 nodes have no endpoint of their own")
FULL = Complaint("QuotaExceeded", "Mooring backend.node.n1 cannot be written: exceeded quota")


def said(story: Story, type_: str = "Moored") -> tuple[str, str, str] | None:
    return next(
        (
            (each.status, each.reason, each.message)
            for each in story.xsvc.status.conditions or ()
            if each.type == type_
        ),
        None,
    )


def foreign(hints: dict[str, object] | None, port: str = "http", *, ready: bool = True) -> EndpointSlice:
    """A slice of the Service that was copied from an Endpoints object."""
    labels = {
        "kubernetes.io/service-name": NAME,
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    endpoint = {"addresses": ["203.0.113.9"], "conditions": {"ready": ready}, "hints": hints}
    return msgspec.convert(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "backend-x7k2p", "namespace": NAMESPACE, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [endpoint],
            "ports": [{"name": port, "port": 80}],
        },
        EndpointSlice,
    )


def test_without_moorings_nothing_is_said_of_them() -> None:
    story = story_of("Node")
    story.step(endpoints(1))
    assert said(story)
    story.change(session_affinity="ClientIP", session_affinity_config=None)
    story.step(endpoints(1))
    assert said(story) is None


def test_it_is_unknown_until_the_group_has_been_decided_about() -> None:
    story = story_of("Node")
    story.step(endpoints(1))
    found = said(story)
    assert found
    assert found[:2] == ("Unknown", "Pending")
    assert said(story, "Ready") == ("True", "Ready", "1 of 1 endpoint takes connections, carried by kube-proxy.")


def test_where_all_are_where_they_are_moored_it_says_who_and_how() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1 n2", b0003="n3")
    story.step(endpoints(3))
    message = "3 nodes are moored to 2 of 3 endpoints, carried by hints to kube-proxy."
    assert said(story) == ("True", "Moored", message)
    assert [each.moorings for each in story.xsvc.status.endpoints or ()] == [2, 0, 1]
    story.moored = moored("Node")
    story.step(endpoints(3))
    assert said(story) == ("True", "NoClients", "There is no node to be moored yet.")


def test_it_is_unknown_while_clients_wait_and_what_is_wrong_is_told_before_that() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1")._replace(pending="They wait")
    story.step(endpoints(1))
    assert said(story) == ("Unknown", "Pending", "They wait.")
    story.moored = moored("Node", (OVER,), b0001="n1")._replace(pending="They wait")
    story.step(endpoints(1))
    assert said(story) == ("False", "TooManyNodes", OVER.message)


def test_what_keeps_clients_from_being_moored_is_told_and_clients_are_served_all_the_same() -> None:
    story = story_of("Node")
    story.moored = moored("Node", (OVER,), b0001="n1")
    decision = story.step(endpoints(1))
    assert said(story) == ("False", "TooManyNodes", OVER.message)
    ready = said(story, "Ready")
    assert ready
    assert ready[:2] == ("True", "Ready")
    assert ready[2].endswith("; not all clients are where they are moored: see Moored.")
    assert ("Warning", "TooManyNodes", OVER.message) in decision.news
    assert not [each for each in story.xsvc.status.conditions or () if each.type == "Stalled"]
    story.moored = moored("Node", b0001="n1")
    back = story.step(endpoints(1))
    assert [(each.type, each.reason) for each in back.news] == [("Normal", "Moored")]


def test_where_no_mooring_can_be_written_it_is_not_ready_and_that_is_told_once() -> None:
    story = story_of("Node")
    story.moored = moored("Node", (FULL,))
    decision = story.step(endpoints(1))
    assert said(story, "Ready") == ("False", "QuotaExceeded", FULL.message)
    assert [each.reason for each in decision.news].count("QuotaExceeded") == 1
    story.moored = moored("Node", (FULL,), b0001="n1")
    story.step(endpoints(1))
    ready = said(story, "Ready")
    assert ready
    assert ready[0] == "True"


def test_a_ready_endpoint_of_others_without_a_hint_is_named_with_what_ends_it() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1")
    story.step(endpoints(1))
    story.cluster.put(foreign(None))
    story.step(endpoints(1))
    found = said(story)
    assert found
    assert found[:2] == ("False", "ForeignSlices")
    assert "backend-x7k2p" in found[2]
    assert found[2].endswith("kubectl delete endpoints -n frontend backend, which they are copied from")


def test_endpoints_of_others_that_leave_the_hints_in_force_are_no_matter_here() -> None:
    hinted: dict[str, object] = {"forNodes": [{"name": "n9"}]}
    for slice_ in (foreign(hinted), foreign(None, ready=False), foreign(None, "another")):
        story = story_of("Node")
        story.moored = moored("Node", b0001="n1")
        story.cluster.put(slice_)
        story.step(endpoints(1))
        found = said(story)
        assert found
        assert found[0] == "True"


@pytest.mark.parametrize("client", ["Pod", "Workload", "Label", "Node", "Zone"])
def test_clients_of_every_kind_are_led_by_node_agents(client: str) -> None:
    story = story_of(client, proxy="moorage")
    story.moored = moored(client, b0001="c1")
    story.step(endpoints(1))
    found = said(story)
    assert found
    assert found[:2] == ("True", "Moored")
    assert found[2].endswith(" is moored to 1 of 1 endpoint, carried by node agents.")
    ready = said(story, "Ready")
    assert ready
    assert "carried by node agents (proxy moorage)" in ready[2]


def test_kube_proxy_is_said_not_to_lead_pods_that_another_of_the_group_has_as_clients() -> None:
    story = story_of("Node")
    story.moored = moored("Pod", b0001="frontend-0")
    story.step(endpoints(1))
    found = said(story)
    assert found
    assert found[:2] == ("False", "NotCarried")
    assert "set spec.proxy to moorage" in found[2]


def test_of_two_families_it_is_told_that_an_endpoint_has_one() -> None:
    story = story_of("Node", ip_family_policy="RequireDualStack")
    story.moored = moored("Node", b0001="n1")
    story.step(endpoints(1))
    found = said(story)
    assert found
    assert found[:2] == ("True", "Moored")
    assert "by the other family, clients of b0001 reach none" in found[2]
    six = Endpoint("six", "2001:db8::6", "addresses")
    story.step((*endpoints(1), six))
    found = said(story)
    assert found
    assert found[:2] == ("False", "FamilyMissing")
    assert "clients of b0001 reach other endpoints" in found[2]
