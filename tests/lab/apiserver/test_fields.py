from moorage_lab.apiserver.fields import changed, display, from_fields_v1, members, to_fields_v1
from moorage_lab.apiserver.objects import Obj
from moorage_lab.apiserver.schema import rules_of
from tests.support.apiserver import kind

SERVICE = kind("Service")
RULES = rules_of(SERVICE)


def service(*ports: Obj, **spec: object) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "uid": "1", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {"ports": list(ports), "selector": {"app": "x"}, **spec},
    }


def test_fields_v1_is_written_as_kubernetes_writes_it() -> None:
    written = to_fields_v1(members(service({"port": 80, "targetPort": 8080}), RULES))
    assert written == {
        "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {'v:"x/y"': {}}},
        "f:spec": {
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:targetPort": {}}},
            "f:selector": {},
        },
    }


def test_fields_v1_reads_back_as_the_same_set() -> None:
    paths = set(members(service({"port": 80}, {"port": 53, "protocol": "UDP"}), RULES))
    assert from_fields_v1(to_fields_v1(paths)) == paths


def test_a_change_is_told_by_field_and_by_item() -> None:
    before, after = service({"port": 80, "name": "a"}), service({"port": 80, "name": "b"}, type="ClusterIP")
    set_, removed = changed(before, after, RULES)
    assert sorted(map(display, set_)) == ['.spec.ports[port=80,protocol="TCP"].name', ".spec.type"]
    assert not removed
    set_, removed = changed(after, service(), RULES)
    assert '.spec.ports[port=80,protocol="TCP"]' in map(display, removed)
