from moorage.api.topology import zone_of
from moorage_lab.control.nodes import nodes
from tests.support.lab_objects import NOW, cluster


def test_each_node_of_the_plan_is_ready_and_says_its_addresses_and_ranges() -> None:
    plan = cluster(2)
    made = nodes(plan, "1.2.3", "6.1.0", NOW)
    assert [node.metadata.name for node in made] == ["node-1", "node-2"]
    for node, planned in zip(made, plan.nodes, strict=True):
        assert node.spec.pod_cidrs == planned.pod_ranges
        assert node.spec.pod_cidr == planned.pod_ranges[0]
        internal = [entry.address for entry in node.status.addresses or () if entry.type == "InternalIP"]
        assert internal == planned.addresses
        assert [(c["type"], c["status"]) for c in node.status.conditions or ()] == [("Ready", "True")]


def test_nodes_are_in_two_zones_in_turn() -> None:
    made = nodes(cluster(3), "1.2.3", "6.1.0", NOW)
    assert [zone_of(each.metadata) for each in made] == ["zone-1", "zone-2", "zone-1"]
