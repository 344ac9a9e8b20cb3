from typing import Any

import pytest

from moorage.api.kinds import Kind
from moorage_lab.apiserver.apply import Manager, Managers, after_update, apply, read_managers, write_managers
from moorage_lab.apiserver.objects import Obj
from moorage_lab.apiserver.schema import rules_of
from moorage_lab.apiserver.status import StatusError
from tests.support.apiserver import kind

SERVICE = kind("Service")
DEPLOYMENT = kind("Deployment")
NOW = "2026-01-01T00:00:00Z"


def manager(name: str, operation: str = "Apply") -> Manager:
    return Manager(name, operation, "v1")


def applied(
    live: Obj, config: Any, managers: Managers, by: str = "me", *, force: bool = False, of: Kind = SERVICE
) -> tuple[Obj, Managers]:
    return apply(live, config, rules_of(of), managers, manager(by), lambda obj: None, force=force, now=NOW)


def test_a_field_that_is_left_out_later_is_removed() -> None:
    live, owners = applied({}, {"spec": {"sessionAffinity": "ClientIP", "type": "ClusterIP"}}, {})
    live, owners = applied(live, {"spec": {"type": "ClusterIP"}}, owners)
    assert live == {"spec": {"type": "ClusterIP"}}
    assert len(owners[manager("me")].paths) == 1


def test_a_field_that_is_shared_stays_when_one_leaves_it_out() -> None:
    live, owners = applied({}, {"spec": {"type": "ClusterIP"}}, {})
    live, owners = applied(live, {"spec": {"type": "ClusterIP"}}, owners, "other")
    live, owners = applied(live, {"spec": {}}, owners)
    assert live["spec"] == {"type": "ClusterIP"}


def test_fields_that_nobody_applied_are_left_alone() -> None:
    live, owners = applied({"spec": {"clusterIP": "10.0.0.1"}}, {"spec": {"type": "ClusterIP"}}, {})
    live, _ = applied(live, {}, owners)
    assert live == {"spec": {"clusterIP": "10.0.0.1"}}


def test_list_items_merge_by_their_keys() -> None:
    live, owners = applied({}, {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}, {})
    live, owners = applied(live, {"spec": {"ports": [{"port": 90, "name": "c"}]}}, owners, "other")
    live, owners = applied(live, {"spec": {"ports": [{"port": 81, "name": "b"}]}}, owners)
    assert [port["port"] for port in live["spec"]["ports"]] == [81, 90]


def test_an_item_goes_with_the_defaults_that_nobody_owns() -> None:
    live, owners = applied({}, {"spec": {"ports": [{"port": 80, "name": "a"}]}}, {})
    live["spec"]["ports"][0]["targetPort"] = 80
    live, _ = applied(live, {"spec": {"type": "ClusterIP"}}, owners)
    assert live == {"spec": {"type": "ClusterIP"}}


def test_the_environment_of_a_container_merges_by_name() -> None:
    def config(**environment: str) -> Obj:
        env = [{"name": name, "value": value} for name, value in environment.items()]
        return {"spec": {"template": {"spec": {"containers": [{"name": "c", "env": env}]}}}}

    live, owners = applied({}, config(A="1", B="2"), {}, of=DEPLOYMENT)
    live, owners = applied(live, config(C="3"), owners, "other", of=DEPLOYMENT)
    live, owners = applied(live, config(A="9"), owners, of=DEPLOYMENT)
    assert live == config(A="9", C="3")


def test_another_managers_field_is_a_conflict_that_names_both() -> None:
    live, owners = applied({}, {"spec": {"type": "ClusterIP"}}, {}, "first")
    with pytest.raises(StatusError) as caught:
        applied(live, {"spec": {"type": "LoadBalancer"}}, owners, "second")
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "first": .spec.type'
    assert caught.value.body()["details"] == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "first"', "field": ".spec.type"}]
    }


def test_several_conflicts_are_all_listed() -> None:
    rules = rules_of(SERVICE)
    spec = {"spec": {"type": "ClusterIP", "ports": [{"port": 80, "name": "a"}]}}
    owners = after_update({}, spec, rules, {}, manager("kubectl-edit", "Update"), NOW)
    with pytest.raises(StatusError) as caught:
        applied(spec, {"spec": {"type": "NodePort", "ports": [{"port": 80, "name": "b"}]}}, owners)
    assert caught.value.message == (
        f'Apply failed with 2 conflicts: conflicts with "kubectl-edit" using v1 at {NOW}:\n'
        '- .spec.ports[port=80,protocol="TCP"].name\n- .spec.type'
    )


def test_force_takes_the_field_over() -> None:
    live, owners = applied({}, {"spec": {"type": "ClusterIP"}}, {}, "first")
    live, owners = applied(live, {"spec": {"type": "LoadBalancer"}}, owners, "second", force=True)
    assert live["spec"]["type"] == "LoadBalancer"
    assert set(owners) == {manager("second")}


def test_an_update_takes_what_it_changes() -> None:
    live, owners = applied({}, {"spec": {"type": "ClusterIP", "sessionAffinity": "None"}}, {})
    after = {"spec": {"type": "LoadBalancer", "sessionAffinity": "None"}}
    owners = after_update(live, after, rules_of(SERVICE), owners, manager("edit", "Update"), NOW)
    assert owners[manager("edit", "Update")].paths == {("f:spec", "f:type")}
    assert owners[manager("me")].paths == {("f:spec", "f:sessionAffinity")}


def test_managers_survive_being_written() -> None:
    _, owners = applied({}, {"metadata": {"labels": {"a": "b"}}, "spec": {"ports": [{"port": 80}]}}, {})
    assert read_managers(write_managers(owners)) == owners
    assert read_managers([{}]) == {}


def test_applying_the_same_again_changes_nothing() -> None:
    config = {"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}
    live, owners = applied({}, config, {})
    assert applied(live, config, owners) == (live, owners)
